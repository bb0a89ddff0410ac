//! Marks of a sweep: one bit an id, and the new id of each once rows moved together.

/// A set of dense ids.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
    /// Marked ids before each word; filled by `rank`.
    before: Vec<u32>,
}

impl Marks {
    pub(crate) fn new(n_ids: usize) -> Marks {
        Marks { words: vec![0; n_ids.div_ceil(64)], before: Vec::new() }
    }

    /// Marks an id; whether it was not marked before. Ids out of range are not marked.
    pub(crate) fn mark(&mut self, id: u32) -> bool {
        let bit = 1u64 << (id % 64);
        match self.words.get_mut(id as usize / 64) {
            Some(word) => {
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
            None => false,
        }
    }

    pub(crate) fn has(&self, id: u32) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// How many ids are marked.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// To be called once, after the last mark and before `new_id`.
    pub(crate) fn rank(&mut self) {
        let mut total = 0;
        self.before = self
            .words
            .iter()
            .map(|word| {
                let before = total;
                total += word.count_ones();
                before
            })
            .collect();
    }

    /// The id of a marked row after the rows moved together; `None` for one that goes.
    pub(crate) fn new_id(&self, id: u32) -> Option<u32> {
        if !self.has(id) {
            return None;
        }
        let index = id as usize / 64;
        let below = self.words.get(index)? & ((1u64 << (id % 64)) - 1);
        Some(self.before.get(index)? + below.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_rows_move_together_in_their_order() {
        let mut marks = Marks::new(200);
        for id in [0, 3, 63, 64, 130, 199] {
            assert!(marks.mark(id));
            assert!(!marks.mark(id));
        }
        assert!(!marks.mark(256));
        marks.rank();
        let new: Vec<_> = [0, 3, 63, 64, 130, 199].map(|id| marks.new_id(id)).into();
        assert_eq!(new, (0..6).map(Some).collect::<Vec<_>>());
        assert_eq!(marks.new_id(5), None);
        assert_eq!(marks.new_id(4_000_000_000), None);
    }
}
