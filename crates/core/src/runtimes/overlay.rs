//! Lays the regions of runtimes over the mappings of their process, as the kernel half looks them up.

use crate::tables::without_file;
use hotframe_abi as abi;
use hotframe_runtime::Region;

/// Puts a region over sorted mappings: what it covers of them gets the table, what it covers of
/// nothing becomes anonymous code of its own. There may be more of them afterwards than fit a blob.
pub(crate) fn overlay(entries: &mut Vec<abi::hf_mapping>, region: Region, table_off: u32) {
    if region.start >= region.end {
        return;
    }
    let mut out = Vec::with_capacity(entries.len() + 3);
    let mut at = region.start;
    let gap = |out: &mut Vec<abi::hf_mapping>, start: u64, end: u64| {
        if start < end {
            out.push(abi::hf_mapping { runtime_off: table_off, ..without_file(start, end) });
        }
    };
    for entry in entries.drain(..) {
        if entry.end <= region.start {
            out.push(entry);
            continue;
        }
        if entry.start >= region.end {
            gap(&mut out, at, region.end);
            at = at.max(region.end);
            out.push(entry);
            continue;
        }
        gap(&mut out, at, entry.start.min(region.end));
        if entry.start < region.start {
            out.push(abi::hf_mapping { end: region.start, ..entry });
        }
        let (start, end) = (entry.start.max(region.start), entry.end.min(region.end));
        let image = if entry.file_id == 0 { start } else { entry.image };
        out.push(abi::hf_mapping { start, end, image, runtime_off: table_off, ..entry });
        if entry.end > region.end {
            let image = if entry.file_id == 0 { region.end } else { entry.image };
            out.push(abi::hf_mapping { start: region.end, image, ..entry });
        }
        at = at.max(end);
    }
    gap(&mut out, at, region.end);
    // Mappings that overlap, as those of a damaged recording may, would leave their pieces out of order.
    out.sort_by_key(|entry| entry.start);
    *entries = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, file_id: u32) -> abi::hf_mapping {
        let image = if file_id == 0 { start } else { 0x100 };
        abi::hf_mapping {
            start,
            end,
            image,
            file_id,
            file_off: file_id,
            runtime_off: 0,
            reserved: 0,
        }
    }

    fn check(entries: &[abi::hf_mapping], region: (u64, u64), expect: &[(u64, u64, u32, u32)]) {
        let mut entries = entries.to_vec();
        overlay(&mut entries, Region { start: region.0, end: region.1 }, 7);
        let got: Vec<_> = entries
            .iter()
            .map(|entry| (entry.start, entry.end, entry.file_id, entry.runtime_off))
            .collect();
        assert_eq!(got, expect);
        for entry in &entries {
            assert_eq!(entry.image, if entry.file_id == 0 { entry.start } else { 0x100 });
        }
    }

    /// A region takes its part of a mapping, the rest stays; where nothing is mapped it stands
    /// for itself.
    #[test]
    fn regions_take_their_part() {
        let file = mapping(0x1000, 0x5000, 1);
        check(
            &[file],
            (0x2000, 0x3000),
            &[(0x1000, 0x2000, 1, 0), (0x2000, 0x3000, 1, 7), (0x3000, 0x5000, 1, 0)],
        );
        check(&[file], (0x1000, 0x5000), &[(0x1000, 0x5000, 1, 7)]);
        let two =
            [mapping(0x1000, 0x2000, 0), mapping(0x4000, 0x6000, 0), mapping(0x9000, 0xa000, 2)];
        check(
            &two,
            (0x800, 0x8000),
            &[
                (0x800, 0x1000, 0, 7),
                (0x1000, 0x2000, 0, 7),
                (0x2000, 0x4000, 0, 7),
                (0x4000, 0x6000, 0, 7),
                (0x6000, 0x8000, 0, 7),
                (0x9000, 0xa000, 2, 0),
            ],
        );
        check(&[], (0x1000, 0x2000), &[(0x1000, 0x2000, 0, 7)]);
        // Such as no process has: it stays sorted.
        let overlapping = [mapping(0x1000, 0x9000, 1), mapping(0x1800, 0x2000, 1)];
        let pieces = [
            (0x1000, 0x2000, 1, 0),
            (0x1800, 0x2000, 1, 0),
            (0x2000, 0x3000, 1, 7),
            (0x3000, 0x9000, 1, 0),
        ];
        check(&overlapping, (0x2000, 0x3000), &pieces);
        check(&[file], (0x3000, 0x3000), &[(0x1000, 0x5000, 1, 0)]);
        check(&[file], (0x6000, 0x7000), &[(0x1000, 0x5000, 1, 0), (0x6000, 0x7000, 0, 7)]);
        check(&[file], (0x100, 0x200), &[(0x100, 0x200, 0, 7), (0x1000, 0x5000, 1, 0)]);
    }
}
