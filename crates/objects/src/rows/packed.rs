//! Rows of a block, as the kernel half searches them.

use crate::rules::Rule;
use hotframe_abi as abi;

pub(super) struct Rows {
    low: u64,
    high: u64,
    pub(super) rows: Vec<abi::hf_row>,
    /// Rows for which there was no room.
    pub(super) truncated: u32,
}

impl Rows {
    pub(super) fn new(low: u64, high: u64) -> Self {
        Self { low, high, rows: vec![Rule::NONE.at(0)], truncated: 0 }
    }

    /// `pc` is not below that of the row before.
    pub(super) fn push(&mut self, pc: u64, rule: Rule) {
        if pc >= self.high {
            return;
        }
        let same = |row: &abi::hf_row| {
            (row.kind, row.fp, row.cfa) == (rule.kind, rule.fp, rule.cfa)
                && !rule.is_function_start()
        };
        let Some(pc) = pc.checked_sub(self.low).and_then(|pc| u16::try_from(pc).ok()) else {
            // What holds where the block starts; a function that starts before it is not here.
            let rule = if rule.is_function_start() { Rule::NONE } else { rule };
            self.rows.clear();
            self.rows.push(rule.at(0));
            return;
        };
        if self.rows.last().is_some_and(|row| row.pc == pc) {
            self.rows.pop();
        }
        if self.rows.last().is_some_and(same) {
            return;
        }
        if self.rows.len() + 1 < abi::HF_MAX_ROWS_PER_BLOCK as usize {
            self.rows.push(rule.at(pc));
        } else {
            self.truncated += 1;
            if self.truncated == 1 {
                self.rows.push(Rule::BAD.at(pc));
            }
        }
    }
}
