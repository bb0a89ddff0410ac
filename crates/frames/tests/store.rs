//! What a user of the store relies on: names come later and stay, processes are told apart, the
//! budget holds.

use hotframe_frames::*;

fn dynamic(data: &[u64]) -> Vec<u64> {
    let mut words = vec![3 << 60 | 4 << 48 | (data.len() as u64) << 40];
    words.extend_from_slice(data);
    words
}

fn native(file: u64, offset: u64) -> u64 {
    1 << 60 | file << 32 | offset
}

fn function(name: &[u8]) -> FunctionInfo<'_> {
    FunctionInfo { name, file: b"a.c", start_line: 1, kind: 4, ..Default::default() }
}

fn frame(name: &[u8], line: u32) -> FrameInfo<'_> {
    FrameInfo { function: function(name), line, flags: 0 }
}

fn process(store: &mut Store, tgid: u32, exec_id: u32) -> Incarnation {
    store.incarnation(ProcessKey { tgid, start_ns: 1, exec_id })
}

fn names(store: &Store, stack: StackId) -> Vec<String> {
    store
        .stack(stack)
        .map(|f| match (f.frame, f.word) {
            (Some(frame), _) => store.function(frame.function).name.to_owned(),
            (None, Some(word)) => format!("{word:#x}"),
            (None, None) => "?".to_owned(),
        })
        .collect()
}

/// Answers every question with a name made of its words.
fn answer_all(store: &mut Store) {
    loop {
        let questions = store.take_questions(16);
        if questions.is_empty() {
            return;
        }
        for q in questions {
            let name = format!("f{:x}", q.words[1]);
            store.answer(q.id, &[frame(name.as_bytes(), 5)]);
        }
    }
}

/// A frame takes the names of another of its process that has some, inlined ones too, and of no other
/// process's; where there are none the question stays.
#[test]
fn a_frame_is_answered_by_one_that_is_alike() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let (p, other) = (process(&mut store, 1, 0), process(&mut store, 2, 0));
    let (one, two) = (dynamic(&[0x10, 1]), dynamic(&[0x10, 2]));
    let first = store.record(p, 1, &one);
    let second = store.record(p, 2, &two);
    let elsewhere = store.record(other, 3, &two);
    let questions = store.take_questions(10);
    let id = |incarnation, words: &[u64]| {
        let asked = questions.iter().find(|q| q.incarnation == incarnation && *q.words == *words);
        asked.map(|question| question.id).expect("it was asked")
    };
    assert!(!store.answer_alike(id(p, &two), &one), "it has no names so far");
    store.answer(id(p, &one), &[frame(b"inner", 5), frame(b"outer", 6)]);
    assert!(store.answer_alike(id(p, &two), &one));
    assert!(!store.answer_alike(id(other, &two), &one), "another process's");
    assert_eq!(names(&store, first), ["inner", "outer"]);
    assert_eq!(names(&store, second), ["inner", "outer"]);
    assert_eq!((names(&store, elsewhere).len(), store.n_pending()), (0, 1));
    assert!(store.answer_alike(id(p, &two), &one), "an answer that comes twice is ignored");
}

#[test]
fn nothing_is_allocated_before_a_sample_needs_it() {
    let budget = Budget::new(1 << 20);
    let mut store = Store::new(&budget, Config::default());
    assert_eq!(budget.used_bytes(), 0);
    process(&mut store, 1, 0);
    assert!(budget.used_bytes() < 512, "{}", budget.used_bytes());
}

#[test]
fn a_stack_waits_for_its_names_and_is_whole_then() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let mut words = dynamic(&[0x10, 1]);
    words.extend(dynamic(&[0x20, 2]));
    words.extend(dynamic(&[0x10, 1]));
    words.push(native(7, 0x40));
    let stack = store.record(p, 99, &words);
    assert_eq!(store.n_pending(), 2, "a recursive frame is asked for once");
    assert_eq!(names(&store, stack).len(), 0);
    assert_eq!(store.record(p, 99, &words), stack);
    let questions = store.take_questions(10);
    assert_eq!(&*questions[0].words, &dynamic(&[0x10, 1])[..]);
    // The first one has two frames inlined into it.
    let inlined = FrameInfo { flags: INLINED, ..frame(b"inner", 3) };
    store.answer(questions[0].id, &[inlined, frame(b"outer", 4)]);
    store.answer(questions[0].id, &[frame(b"again", 4)]);
    store.answer(questions[1].id, &[frame(b"mid", 9)]);
    let expect = ["inner", "outer", "mid", "inner", "outer", "0x1000000700000040"];
    assert_eq!(names(&store, stack), expect);
    assert!(store.name_word(native(7, 0x40), &[inlined, frame(b"main", 1)]));
    assert_eq!(names(&store, stack)[5..], ["inner", "main"]);
    let at: Vec<_> = store.stack(stack).map(|f| f.word).collect();
    assert_eq!(at[5..], [Some(native(7, 0x40)); 2]);
    store.sweep();
    assert_eq!(names(&store, stack)[..2], ["inner", "outer"]);
    assert_eq!(names(&store, stack)[5..], ["inner", "main"]);
    assert_eq!(store.known_stack(p, 99), Some(stack));
    assert_eq!(store.n_pending(), 0);
}

/// Lesson of a peer's reused pid: equal words of another process image are another frame.
#[test]
fn a_reused_pid_or_an_exec_never_yields_an_old_name() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let words = dynamic(&[0x10, 1]);
    let first = process(&mut store, 1, 0);
    let stack = store.record(first, 5, &words);
    let q = store.take_questions(1).remove(0);
    store.answer(q.id, &[frame(b"old", 1)]);
    let exec = process(&mut store, 1, 1);
    assert_ne!(first, exec);
    assert_eq!(store.known_stack(exec, 5), None);
    let other = store.record(exec, 5, &words);
    let q = store.take_questions(1).remove(0);
    assert_eq!(q.incarnation, exec);
    store.answer(q.id, &[frame(b"new", 1)]);
    // The old image ended; the same pid, start and exec id is a new image now.
    store.exited(first);
    let third = process(&mut store, 1, 0);
    assert_ne!(first, third);
    assert_eq!(store.known_stack(third, 5), None);
    assert_eq!(names(&store, stack), ["old"]);
    assert_eq!(names(&store, other), ["new"]);
    store.sweep();
    assert_eq!(names(&store, stack), ["old"], "stacks outlive their process");
    assert_eq!(store.known_frame(first, &words), None);
}

#[test]
fn a_stalled_resolver_stops_neither_sampling_nor_export() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let stacks: Vec<_> = (0..1000)
        .map(|i| {
            let mut words = dynamic(&[i, 0]);
            words.push(native(1, 8));
            store.record(p, i, &words)
        })
        .collect();
    let questions = store.take_questions(usize::MAX);
    assert_eq!(store.settle(), 1000);
    for &stack in &stacks {
        assert_eq!(names(&store, stack)[0], Why::Late.label());
    }
    // The answers come after the export: the next one has the names.
    for q in questions {
        let name = format!("late{}", q.words[1]);
        store.answer(q.id, &[frame(name.as_bytes(), 1)]);
    }
    for (i, &stack) in stacks.iter().enumerate() {
        assert_eq!(names(&store, stack)[0], format!("late{i}"));
        assert_eq!(store.known_stack(p, i as u64), Some(stack));
    }
    let waiting = store.report().into_iter().find(|r| r.owner == "frames.pending").unwrap();
    assert_eq!((waiting.bytes, waiting.entries), (0, 0));
}

#[test]
fn a_process_that_dies_at_once_keeps_what_was_read() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let mut words = dynamic(&[1]);
    words.extend(dynamic(&[2]));
    words.extend(dynamic(&[3]));
    let stack = store.record(p, 1, &words);
    store.exited(p);
    let q = store.take_questions(3);
    store.answer(q[0].id, &[frame(b"read", 1)]);
    store.answer_unnamed(q[1].id, Why::ProcessGone);
    store.answer_unnamed(q[2].id, Why::ProcessGone);
    let gone = Why::ProcessGone.label();
    assert_eq!(names(&store, stack), ["read", gone, gone]);
    let nodes = store.n_frames();
    assert!(nodes <= 3, "one frame a reason, not one a pointer: {nodes}");
    assert!(store.stack(stack).skip(1).all(|f| f.frame.unwrap().flags & UNNAMED != 0));
}

/// What 300 identical workers cost beside one: entries to look up, no identity.
#[test]
fn identical_workers_share_identity() {
    let identity = |n: u32| {
        let budget = Budget::new(64 << 20);
        let mut store = Store::new(&budget, Config::default());
        for tgid in 0..n {
            let p = process(&mut store, tgid, 0);
            for i in 0..2000u64 {
                let words = dynamic(&[0x7f00_0000 + i * 64, i]);
                store.record(p, i, &words);
            }
            answer_all(&mut store);
        }
        let of = |prefix: &str| -> u64 {
            let reports = store.report();
            reports.iter().filter(|r| r.owner.starts_with(prefix)).map(|r| r.bytes).sum()
        };
        (of("frames."), of("lookup.dynamic"), of("stacks.nodes"))
    };
    let (one, _, nodes_one) = identity(1);
    let (all, lookup, nodes_all) = identity(300);
    assert!(all * 100 < one * 105, "{one} for one, {all} for 300");
    assert!(nodes_all * 100 < nodes_one * 105, "{nodes_one} {nodes_all}");
    assert!(lookup / (300 * 2000) <= 48, "{} bytes an entry", lookup as f64 / 600_000.0);
}

#[test]
fn a_full_budget_refuses_stacks_and_says_so() {
    let budget = Budget::new(300_000);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let mut kept = Vec::new();
    let mut refused = 0;
    for i in 0..50_000u64 {
        let words = [native(1, i * 4), native(1, 4 + i / 7 * 8), native(2, 4)];
        match store.record(p, i + 1, &words) {
            StackId::REFUSED => refused += 1,
            stack => kept.push((stack, words)),
        }
        assert!(budget.used_bytes() <= 300_000);
    }
    assert!(kept.len() > 2000 && refused > 10_000, "{} {refused}", kept.len());
    assert_eq!(store.counters().stacks_refused, refused);
    assert_eq!(names(&store, StackId::REFUSED), [Why::NoRoom.label()]);
    for (stack, words) in kept {
        let got: Vec<_> = store.stack(stack).filter_map(|f| f.word).collect();
        assert_eq!(got, words);
    }
}

#[test]
fn a_lowered_budget_evicts_and_keeps_every_name_in_use() {
    let budget = Budget::new(64 << 20);
    let mut store = Store::new(&budget, Config { tombstones: 64, ..Config::default() });
    let p = process(&mut store, 1, 0);
    let hot = store.record(p, 1, &dynamic(&[1]));
    answer_all(&mut store);
    for i in 2..30_000u64 {
        let stack = store.record(p, i, &dynamic(&[i]));
        answer_all(&mut store);
        store.forget(&[stack]);
    }
    let before = budget.used_bytes();
    budget.set_limit_bytes(before / 2);
    for i in 30_000..31_000u64 {
        store.record(p, i, &dynamic(&[i]));
        answer_all(&mut store);
    }
    assert!(budget.used_bytes() <= before / 2, "{} of {before}", budget.used_bytes());
    assert_eq!(names(&store, hot), ["f1"]);
    assert!(store.report().iter().any(|r| r.owner == "lookup.dynamic" && r.evictions > 0));
}

#[test]
fn a_forgotten_stack_is_sent_whole_again() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let a = store.record(p, 10, &[native(1, 4)]);
    let b = store.record(p, 11, &[native(1, 8)]);
    assert_eq!(store.begin_forget(10), []);
    let cold = store.begin_forget(10);
    assert_eq!(cold, [a, b]);
    // Between the deletion of the kernel's key and the drain, the kernel sent `a` whole again.
    assert_eq!(store.record(p, 10, &[native(1, 4)]), a);
    assert_eq!(store.finish_forget(), 1);
    assert_eq!(store.known_stack(p, 10), Some(a));
    assert_eq!(store.known_stack(p, 11), None);
    store.sweep();
    assert_eq!(names(&store, a), ["0x1000000100000004"]);
    let again = store.record(p, 11, &[native(1, 8)]);
    assert_eq!(names(&store, again), ["0x1000000100000008"]);
}

#[test]
fn bad_names_are_kept_tame() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let huge = vec![b'n'; 1 << 20];
    let bad: [&[u8]; 6] = [b"", b"\0", b"a\0b", b"\xff\xfe", b"x\n\x1b[2J", &huge];
    for (i, name) in bad.iter().enumerate() {
        let stack = store.record(p, i as u64 + 1, &dynamic(&[i as u64]));
        let q = store.take_questions(1).remove(0);
        let function = FunctionInfo { system_name: b"_Z\0x", ..function(name) };
        // A chain that repeats one frame, as a resolver caught in a cycle would send it.
        let one = FrameInfo { function, line: u32::MAX, flags: INLINED };
        store.answer(q.id, &vec![one; 10_000]);
        let got: Vec<_> = store.stack(stack).map(|f| f.frame.unwrap()).collect();
        assert_eq!(got.len(), MAX_CHAIN);
        let function = store.function(got[0].function);
        assert!(function.name.len() <= MAX_TEXT_BYTES);
        assert!(!function.name.chars().any(char::is_control));
        assert_eq!(function.system_name, Some("_Z\u{fffd}x"));
        assert_eq!(got[0].line, 0);
    }
    assert!(store.n_sanitised() > 5);
    // A head that promises more words than there are, and words of every kind.
    store.record(p, 100, &[3 << 60 | 255 << 40, 1]);
    for kind in 0..16u64 {
        store.record(p, 200 + kind, &[kind << 60 | 1, 2, 3, 4]);
    }
}

#[test]
fn long_dynamic_keys_are_told_apart() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let mut data: Vec<u64> = (0..200).collect();
    store.record(p, 1, &dynamic(&data));
    data[150] += 1;
    store.record(p, 2, &dynamic(&data));
    assert_eq!(store.n_pending(), 2);
}

/// An address in no file says nothing without its process: two processes' stacks of equal words
/// and hash are two, named apart, and code that both share is one.
#[test]
fn addresses_in_no_file_are_named_by_process() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let own = 2 << 60 | 0x7f00_1234;
    let words = [own, native(7, 0x40)];
    let [a, b] = [process(&mut store, 1, 0), process(&mut store, 2, 0)];
    let [of_a, of_b] = [store.record(a, 5, &words), store.record(b, 5, &words)];
    assert_ne!(of_a, of_b);
    assert_eq!(store.n_pending(), 0, "nobody is asked, nothing waits");
    let mut unnamed = store.unnamed_own_words();
    unnamed.sort();
    assert_eq!(unnamed, [(a, own), (b, own)]);
    assert_eq!(store.unnamed_words(10), [native(7, 0x40)]);
    store.name_word(native(7, 0x40), &[frame(b"main", 1)]);
    store.name_own_word(a, own, &[frame(b"jitted", 1)]);
    assert_eq!(names(&store, of_a), ["jitted", "main"]);
    assert_eq!(names(&store, of_b), ["0x200000007f001234", "main"]);
    store.sweep();
    assert_eq!(names(&store, of_a), ["jitted", "main"]);
    assert_eq!(store.known_stack(a, 5), Some(of_a));
    assert_eq!(store.known_stack(b, 5), Some(of_b));
    assert_eq!(store.numbers_at(a, own).count(), 1);
    assert_eq!(store.numbers_at(b, own).count(), 0);
}

/// What has no name counts as unnamed of its own kind of code.
#[test]
fn notes_have_the_kind_of_what_they_stand_for() {
    let budget = Budget::new(8 << 20);
    let kind_of = |words: &[u64]| (words[0] >> 48) as u8;
    let mut store = Store::new(&budget, Config { kind_of, ..Config::default() });
    let p = process(&mut store, 1, 0);
    let of_runtime = |runtime: u64| [3 << 60 | runtime << 48 | 1 << 40, runtime];
    let stacks = [5, 6, 7].map(|runtime| store.record(p, runtime, &of_runtime(runtime)));
    let questions = store.take_questions(2);
    assert_eq!(questions[0].process, ProcessKey { tgid: 1, start_ns: 1, exec_id: 0 });
    for q in questions {
        store.answer_unnamed(q.id, Why::ProcessGone);
    }
    store.settle();
    let shown = stacks.map(|stack| {
        let frame = store.stack(stack).next().unwrap().frame.unwrap();
        let function = store.function(frame.function);
        (function.kind, function.name.to_owned(), frame.flags)
    });
    let gone = Why::ProcessGone.label().to_owned();
    let late = Why::Late.label().to_owned();
    assert_eq!(shown, [(5, gone.clone(), UNNAMED), (6, gone, UNNAMED), (7, late, UNNAMED)]);
}

/// Stacks moved to another store are the same stacks there, and equal ones are one.
#[test]
fn stacks_are_grafted_onto_another_store() {
    let budget = Budget::new(8 << 20);
    let mut from = Store::new(&budget, Config::default());
    let mut to = Store::new(&budget, Config::default());
    let [p, q] = [&mut from, &mut to].map(|store| process(store, 1, 0));
    let mut words = dynamic(&[0x10, 1]);
    words.extend([2 << 60 | 0x1234, native(7, 0x40)]);
    let stack = from.record(p, 5, &words);
    answer_all(&mut from);
    let graft = |to: &mut Store, from: &Store| {
        let mut path = Vec::new();
        let mut at = from.leaf(stack).unwrap();
        while at != 0 {
            path.extend(from.grafts_at(from.node(at)));
            at = from.node(at).parent;
        }
        path.iter().rev().fold(0, |parent, &one| {
            let one = match one {
                Graft::Own(_, word) => Graft::Own(q, word),
                Graft::Frame(_) => Graft::Frame(to.keep_frame(&[frame(b"f10", 5)]).unwrap()),
                word => word,
            };
            to.graft(parent, one).unwrap()
        })
    };
    let leaf = graft(&mut to, &from);
    assert_eq!(graft(&mut to, &from), leaf);
    assert_eq!(to.n_nodes(), 1 + 3);
    let node = to.node(leaf);
    let name = to.frames_at(node).next().unwrap().frame.unwrap().function;
    assert_eq!(to.function(name).name, "f10");
    assert_eq!(to.word_at(to.node(node.parent)), Some(2 << 60 | 0x1234));
    // Names that find no room do not push grafted stacks out.
    let to_limit = to.report().iter().map(|report| report.bytes).sum::<u64>();
    budget.set_limit_bytes(budget.used_bytes().min(to_limit));
    for line in 0..40_000 {
        if to.keep_frame(&[frame(b"f", line)]).is_none() {
            break;
        }
    }
    to.name_word(native(7, 0x40), &[frame(&[b'n'; 9000], 1)]);
    to.sweep();
    assert_eq!(to.node(leaf), node);
    budget.set_limit_bytes(8 << 20);
    // What is forgotten leaves nothing but the lookup caches' names.
    let before = budget.used_bytes();
    from.forget_all();
    assert!(budget.used_bytes() < before);
    assert_eq!(from.known_stack(p, 5), None);
    assert!(from.known_frame(p, &dynamic(&[0x10, 1])).is_some(), "the process lives");
    let again = from.record(p, 5, &words);
    assert_eq!((names(&from, again)[0].as_str(), from.n_pending()), ("f10", 0));
}

/// Where not even a note finds room, what stands in is the refused stack's frame, not whatever was
/// taken in first.
#[test]
fn a_note_without_room_is_no_other_name() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    store.learn(p, &dynamic(&[1, 1]), &[frame(b"learnt first", 1)]);
    let stack = store.record(p, 5, &dynamic(&[2, 2]));
    let q = store.take_questions(1).remove(0);
    budget.set_limit_bytes(0);
    // Fills what the chunks still have, so that a note needs another one.
    for i in 0..20_000 {
        store.keep_frame(&[frame(b"learnt first", i)]);
    }
    store.answer_unnamed(q.id, Why::ProcessGone);
    assert!(names(&store, stack)[0].starts_with("[unnamed: "), "{:?}", names(&store, stack));
}

/// Tables and indexes once began so large that a small budget had no room for a single name.
#[test]
fn a_small_budget_keeps_what_it_can() {
    let budget = Budget::new(30 << 10);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let (mut hits, mut met) = (0, 0);
    for round in 0..400u64 {
        // A hundred that come again and again, and three times as many that do not.
        for i in (0..100).chain(1_000 + round * 300..1_300 + round * 300) {
            let words = dynamic(&[i]);
            if i < 100 && round > 0 {
                met += 1;
                hits += u64::from(store.known(p, &words).is_some());
            }
            if store.known(p, &words).is_none() {
                store.learn(p, &words, &[frame(format!("function{i}").as_bytes(), 1)]);
            }
            assert!(budget.used_bytes() <= 30 << 10);
        }
    }
    assert!(hits * 10 > met * 9, "{hits} of {met}");
}

/// Nothing in the store looks at a clock: a machine that idles, with profiles that begin and end
/// each minute for thirty days, has its names as it left them.
#[test]
fn names_outlive_any_idle_time() {
    let budget = Budget::new(1 << 20);
    let mut store = Store::new(&budget, Config::default());
    let p = process(&mut store, 1, 0);
    let words = [dynamic(&[1, 2]), vec![native(3, 0x40)]].concat();
    let stack = store.record(p, 7, &words);
    answer_all(&mut store);
    store.name_word(native(3, 0x40), &[frame(b"main", 1)]);
    let before = names(&store, stack);
    for minute in 0..30 * 24 * 60 {
        store.sweep();
        if minute == 120 || minute % 10_000 == 0 {
            assert_eq!(store.record(p, 7, &words), stack);
            assert_eq!(names(&store, stack), before);
        }
    }
    assert_eq!(names(&store, stack), before);
    assert_eq!((store.known_stack(p, 7), store.n_pending()), (Some(stack), 0));
}

/// A process that generates code for ever, among others that go about their work.
#[test]
fn one_process_of_lambdas_leaves_the_others_alone() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let hog = process(&mut store, 1, 0);
    let others: Vec<_> = (2..12).map(|tgid| process(&mut store, tgid, 0)).collect();
    let (mut hits, mut met) = (0, 0);
    for i in 0..200_000u64 {
        let lambda = format!("com.example.Generated$$Lambda/0x{i:016x}.apply");
        store.learn(hog, &dynamic(&[i, i]), &[frame(lambda.as_bytes(), 1)]);
        let own = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let other = others[own as usize % 10];
        let words = dynamic(&[own % 4_000]);
        let known = store.known(other, &words).is_some();
        // Once each was met several times.
        if i > 100_000 {
            met += 1;
            hits += u64::from(known);
        }
        if !known {
            let name = format!("service.Component.method{}", own % 4_000);
            store.learn(other, &words, &[frame(name.as_bytes(), 1)]);
        }
        assert!(budget.used_bytes() <= 8 << 20);
    }
    assert!(hits * 100 >= met * 99, "{hits} of {met}");
}

/// Ended processes' entries were once kept before those of living ones, and filled a small budget:
/// short processes then had no name twice.
#[test]
fn ended_processes_make_room_for_living_ones() {
    let budget = Budget::new(256 << 10);
    let mut store = Store::new(&budget, Config::default());
    let mut living = std::collections::VecDeque::new();
    let mut hits = 0;
    for tgid in 1..3_000 {
        let p = process(&mut store, tgid, 0);
        for i in 0..40u64 {
            let words = dynamic(&[u64::from(tgid % 50) * 10 + i, 1]);
            store.learn(p, &words, &[frame(format!("step{i}").as_bytes(), 1)]);
        }
        hits += (0..40u64)
            .filter(|i| store.known(p, &dynamic(&[u64::from(tgid % 50) * 10 + i, 1])).is_some())
            .count();
        living.push_back(p);
        if living.len() > 20
            && let Some(ended) = living.pop_front()
        {
            store.exited(ended);
        }
    }
    assert!(hits * 100 >= 2_999 * 40 * 99, "{hits}");
    assert!(budget.used_bytes() <= 256 << 10, "{}", budget.used_bytes());
}

/// Whatever code a frame is of, its words alone find it.
#[test]
fn any_frame_is_known_by_its_words() {
    let budget = Budget::new(1 << 20);
    let mut store = Store::new(&budget, Config::default());
    let [p, q] = [1, 2].map(|tgid| process(&mut store, tgid, 0));
    let own = 2 << 60 | 0x7f00_1234;
    for words in [vec![native(1, 4)], vec![own], dynamic(&[5, 6])] {
        assert_eq!(store.known(p, &words), None);
        assert!(store.learn(p, &words, &[frame(b"inlined", 1), frame(b"outer", 2)]));
        let number = store.known(p, &words).unwrap();
        assert_eq!(store.function(store.frame(number).function).name, "inlined");
        assert_eq!(store.known(q, &words).is_some(), words[0] == native(1, 4));
    }
    assert_eq!(store.known(p, &[]), None);
}

/// Stacks of a few processes that differ near the leaf mostly, as real ones do, with sweeps that
/// give nodes and places other numbers, stacks that wait, and stacks that are forgotten in between:
/// each reads as what was sent.
#[test]
fn stacks_that_share_outer_frames_stay_what_they_are() {
    let budget = Budget::new(8 << 20);
    let mut store = Store::new(&budget, Config::default());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    let processes = [1, 2, 3].map(|tgid| process(&mut store, tgid, 0));
    // Outermost first. More frames than are remembered, sometimes.
    let mut paths = vec![vec![native(1, 1), native(1, 2), native(1, 3), native(1, 4)]; 3];
    let mut taken: Vec<(StackId, Vec<String>)> = Vec::new();
    for round in 0..20_000_u64 {
        let of = next(3) as usize;
        let path = &mut paths[of];
        let keep = path.len().saturating_sub(next(6) as usize).max(next(5) as usize);
        path.truncate(keep);
        while path.len() < 3 || next(3) > 0 && path.len() < 140 {
            path.push(match next(12) {
                0 => 2 << 60 | next(40),
                _ => native(next(3), next(40)),
            });
        }
        let mut words: Vec<u64> = path.iter().rev().copied().collect();
        let mut expect: Vec<String> = words.iter().map(|word| format!("{word:#x}")).collect();
        if next(4) == 0 {
            let data = 1 + next(50);
            words.splice(0..0, dynamic(&[data, 0]));
            expect.insert(0, format!("f{data:x}"));
        }
        let stack = store.record(processes[of], round << 20 | 1, &words);
        assert_ne!(stack, StackId::REFUSED);
        taken.push((stack, expect));
        if next(5) == 0 {
            answer_all(&mut store);
        }
        if next(60) == 0 {
            answer_all(&mut store);
            for (stack, expect) in taken.drain(..) {
                assert_eq!(names(&store, stack), expect);
                store.forget(&[stack]);
            }
        }
        if next(40) == 0 {
            store.sweep();
        }
    }
    let recent = store.report().into_iter().find(|it| it.owner == "lookup.recent").unwrap();
    assert!(recent.hits > 50_000, "{recent:?}");
}
