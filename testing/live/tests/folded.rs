//! The suite's own reader of folded stacks, without which no other test could fail.

use hotframe_live::Folded;

/// Threads, names with spaces, annotations and counts are told apart.
#[test]
fn folded_lines_are_read() {
    let folded = Folded::parse("a b;main;operator new(int);do_work_[i] 12\nc;read_[k] 3\n");
    assert_eq!(folded.of("a b"), 12);
    assert_eq!(folded.samples(|stack| stack.has("read")), 3);
    assert_eq!(folded.stacks[0].annotated[2], "do_work_[i]");
    folded.assert_path("a b", |_| true, &["operator new(int)", "do_work"]);
}

/// A path is contiguous and in order: neither a gap nor the other direction will do.
#[test]
fn a_path_is_contiguous_and_in_order() {
    let folded = Folded::parse("t;a;b;c;d 1\n");
    let stack = &folded.stacks[0];
    assert!(stack.has_path(&["b", "c"]));
    assert!(!stack.has_path(&["a", "c"]));
    assert!(!stack.has_path(&["c", "b"]));
    assert!(!stack.has_path(&["c", "d", "e"]));
}

/// A path that no stack was asked about is a failure, not a success.
#[test]
#[should_panic(expected = "no sample of absent")]
fn nothing_to_look_at_fails() {
    Folded::parse("t;a 1\n").assert_path("absent", |_| true, &["a"]);
}
