//! What writing a profile holds beside the profile: `record` leaves room for it (`--memory`), so it
//! must not grow unseen.

use hotframe_alloc::Counting;
use hotframe_core::profile::Profile;
use hotframe_formats::{Format, canonical, synthetic};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that is held at once while `work` runs, beside what was held before.
fn extra_bytes(work: impl FnOnce()) -> u64 {
    hotframe_alloc::reset_peak();
    let before = hotframe_alloc::total_bytes();
    work();
    hotframe_alloc::peak_bytes() - before
}

/// As much as is stated, and no more, where all stacks are different, where few are, and where
/// one thread has all of them.
#[test]
fn writers_hold_what_is_stated() {
    for (threads, stacks, depth, samples) in
        [(80, 60_000, 40, 60_000), (80, 2_000, 20, 300_000), (1, 60_000, 40, 60_000)]
    {
        let shape = synthetic::Shape { processes: 1, threads, stacks, depth, samples };
        let before = hotframe_alloc::total_bytes();
        let mut profile: Profile = canonical(&synthetic::large(&shape)).unwrap();
        profile.is_canonical = true;
        let own = hotframe_alloc::total_bytes() - before;
        for format in Format::ALL.into_iter().filter(|format| format.writes()) {
            let extra = extra_bytes(|| format.write(&profile, &mut std::io::sink()).unwrap());
            let percent = extra * 100 / own;
            println!("{} {extra} of {own}: {percent} %", format.name());
            assert!(percent <= format.writing_percent(), "{}: {percent} %", format.name());
        }
    }
}
