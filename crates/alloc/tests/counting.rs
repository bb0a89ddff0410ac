//! The books of the allocator against what is known to be held.

use hotframe_alloc::{Counting, Tag, peak_bytes, reset_peak, total_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn bytes_are_booked_on_who_took_them_and_off_by_whoever_frees() {
    const A: Tag = Tag::new(1);
    const B: Tag = Tag::new(2);
    let mut grown: Vec<u64> = A.of(Vec::new);
    A.of(|| grown.reserve_exact(100));
    assert_eq!(A.live_bytes(), 801);
    // Growing under another tag leaves the block with who took it first.
    B.of(|| grown.reserve_exact(1000));
    assert_eq!((A.live_bytes(), B.live_bytes()), (8001, 0));
    let zeroed = B.of(|| vec![0u8; 10_000]);
    assert!(zeroed.iter().all(|&byte| byte == 0));
    assert_eq!(B.live_bytes(), 10_001);
    reset_peak();
    let before = total_bytes();
    let big = B.of(|| vec![1u8; 1 << 20]);
    assert!(total_bytes() >= before + (1 << 20));
    std::thread::spawn(move || drop((big, zeroed, grown))).join().unwrap();
    assert_eq!((A.live_bytes(), B.live_bytes()), (0, 0));
    assert!(peak_bytes() >= before + (1 << 20));
    let nested = A.of(|| B.of(|| Box::new([0u8; 64])));
    assert_eq!((A.live_bytes(), B.live_bytes()), (0, 65));
    drop(nested);
    // A panic inside must not leave its tag behind.
    let panicked = std::panic::catch_unwind(|| A.of(|| std::panic::resume_unwind(Box::new(()))));
    assert!(panicked.is_err());
    let after = Box::new([0u8; 333]);
    assert!(A.live_bytes() < 333);
    drop(after);
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let page = B.of(|| Box::new(Page([7; 4096])));
    assert_eq!(B.live_bytes(), 4097);
    assert!(page.0.iter().all(|&byte| byte == 7) && (&raw const *page).addr().is_multiple_of(4096));
}
