//! `hotframe record -- CMD`: the command's exit code, signals and user, and where output goes.
#![forbid(unsafe_code)]

use hotframe_live::{Recorder, Scratch, live, program, run, send, skipped, wait_for};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

fn sh(script: &str) -> [&str; 4] {
    ["--", "sh", "-c", script]
}

/// The command's own exit code is ours.
#[test]
fn exit_code_is_the_commands() {
    live!();
    for code in [0, 3, 127] {
        let script = format!("exit {code}");
        let recording = Recorder::start(sh(&script)).finish();
        assert_eq!(recording.code(), code, "{}", recording.stderr);
        recording.assert_books();
    }
}

/// A command killed by a signal gives 128 + its number.
#[test]
fn signal_of_the_command() {
    live!();
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let script = format!("kill -s {signal} $$");
        let recording = Recorder::start(sh(&script)).finish();
        assert_eq!(recording.status.code(), Some(128 + number), "{}", recording.stderr);
    }
}

/// The command's stdout is its own: nothing of ours is mixed into it.
#[test]
fn stdout_is_the_commands() {
    live!();
    let recording = Recorder::start(sh("echo data; echo words >&2")).finish();
    assert_eq!(recording.stdout, b"data\n");
    assert!(recording.stderr.contains("words"));
}

/// `--quiet` leaves stderr to the command.
#[test]
fn quiet() {
    live!();
    let recording = Recorder::start(["--quiet", "--", "sh", "-c", "echo words >&2"]).finish();
    assert_eq!(recording.stderr, "words\n");
}

/// Without a terminal there is no progress line and no colour.
#[test]
fn no_escapes_without_a_terminal() {
    live!();
    let recording = Recorder::start(["-d", "1"]).finish();
    assert!(!recording.stderr.contains(['\x1b', '\r']), "{:?}", recording.stderr);
    assert!(recording.stdout.is_empty());
}

/// The very first instructions of the command are recorded: it waits before exec.
#[test]
fn the_command_waits_until_recording_is_on() {
    live!();
    let split = program!("split");
    let recording = Recorder::start(["--".as_ref(), split.as_os_str(), "1".as_ref()]).finish();
    let used_ns: f64 = String::from_utf8_lossy(&recording.stdout).trim().parse().expect("a number");
    let sampled_ns = recording.folded.of("split") as f64 * 1e9 / 99.0;
    assert!(sampled_ns >= 0.95 * used_ns, "sampled {sampled_ns:.0} of {used_ns:.0} ns");
}

/// With -d and a command, recording ends at -d and hotframe waits for the command.
#[test]
fn duration_with_a_command() {
    live!();
    let split = program!("split");
    let args = ["-d".as_ref(), "1".as_ref(), "--".as_ref(), split.as_os_str(), "3".as_ref()];
    let recording = Recorder::start(args).finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    assert!(!recording.stdout.is_empty(), "the command ran to its end");
    let samples = recording.folded.of("split");
    assert!((1..=110).contains(&samples), "{samples} samples in one second of 99 Hz");
    let waits = "waiting for the command (pid ";
    assert!(recording.stderr.contains(waits), "{}", recording.stderr);
    let recording = Recorder::start(sh("true")).finish();
    assert!(!recording.stderr.contains(waits), "it has ended: {}", recording.stderr);
}

/// The command has the terminal to itself while it runs, and a terminal that can empty no line has no
/// progress line; other recordings have one.
#[test]
fn progress_on_a_terminal() {
    live!();
    if !hotframe_live::has_program("script") {
        return skipped("script(1) is not installed");
    }
    let scratch = Scratch::new();
    let page = scratch.path("a.html");
    let shown = |terminal: &str, arguments: &str| {
        let line = format!(
            "TERM={terminal} '{}' record -o '{}' {arguments}",
            hotframe_live::hotframe().display(),
            page.display()
        );
        run("script", ["-qec", &line, "/dev/null"])
    };
    let is_progress = |text: &str| text.contains(" samples \r\x1b[K");
    let screen = shown("xterm", "-d 1.5");
    assert!(is_progress(&screen), "{screen:?}");
    let screen = shown("dumb", "-d 1.5");
    assert!(!screen.contains('\x1b'), "{screen:?}");
    let screen = shown("xterm", "-- sh -c 'sleep 1.5; echo done'");
    assert!(screen.starts_with("done"), "{screen:?}");
}

/// The command's own signals are as they were: a file that may grow no further ends it.
#[test]
fn a_limit_of_file_sizes_ends_the_command() {
    live!();
    let scratch = Scratch::new();
    let file = scratch.path("file");
    let script = format!("ulimit -f 1; exec head -c 100000 /dev/zero >'{}'", file.display());
    let recording = Recorder::start(sh(&script)).finish();
    assert_eq!(recording.code(), 128 + 25, "{}", recording.stderr);
}

/// Ctrl-C ends a recording and what was recorded is written.
#[test]
fn interrupt_writes_the_result() {
    live!();
    let _burning = hotframe_live::Workload::start(&program!("split"), [""; 0]);
    let mut recorder = Recorder::start([""; 0]);
    recorder.wait_until_sampling();
    std::thread::sleep(std::time::Duration::from_secs(1));
    send("INT", i64::from(recorder.pid()));
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    assert!(recording.folded.of("split") > 0, "{}", recording.folded.summary());
}

/// The first Ctrl-C reaches the command and ends the recording; its code is ours.
#[test]
fn interrupt_reaches_the_command() {
    live!();
    let scratch = Scratch::new();
    let ready = scratch.path("ready");
    let script =
        format!("trap 'exit 7' INT; touch {}; while :; do sleep 0.05; done", ready.display());
    let recorder = Recorder::start(sh(&script));
    wait_for("the command to run", || ready.exists().then_some(()));
    // As a terminal does it: to the whole foreground process group.
    send("INT", -i64::from(recorder.pid()));
    let recording = recorder.finish();
    assert_eq!(recording.code(), 7, "{}", recording.stderr);
    recording.assert_books();
}

/// The second Ctrl-C aborts, even when the command will not end.
#[test]
fn second_interrupt_aborts() {
    live!();
    let scratch = Scratch::new();
    let ready = scratch.path("ready");
    // It lets go of the pipes: whoever reads hotframe's to their end must not wait for it.
    let script = format!(
        "exec >/dev/null 2>&1; trap '' INT; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let recorder = Recorder::start(sh(&script));
    wait_for("the command to run", || ready.exists().then_some(()));
    let group = -i64::from(recorder.pid());
    send("INT", group);
    std::thread::sleep(std::time::Duration::from_millis(300));
    send("INT", group);
    let recording = recorder.finish();
    assert_eq!(recording.code(), 130, "{}", recording.stderr);
    assert!(recording.stderr.contains("aborted"), "{}", recording.stderr);
    // The command ignores the signal; it goes with its group.
    let _ = Command::new("kill").args(["-s", "KILL", "--", &group.to_string()]).status();
}

/// Once `-d` is over the first signal is the command's, and the second ends hotframe.
#[test]
fn signals_after_the_recording() {
    live!();
    let scratch = Scratch::new();
    let (ready, got) = (scratch.path("ready"), scratch.path("got"));
    let after = |trap: &str| {
        let _ = fs::remove_file(&ready);
        let script = format!(
            "exec >/dev/null 2>&1; trap '{trap}' TERM; touch {}; while :; do sleep 0.05; done",
            ready.display()
        );
        let recorder = Recorder::start(["-d", "0.5", "--", "sh", "-c", &script]);
        wait_for("the command to run", || ready.exists().then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(1500));
        recorder
    };
    let recorder = after("exit 7");
    send("TERM", i64::from(recorder.pid()));
    let recording = recorder.finish();
    assert_eq!(recording.code(), 7, "{}", recording.stderr);
    recording.assert_books();

    let recorder = after(&format!("echo more >>{}", got.display()));
    send("TERM", i64::from(recorder.pid()));
    wait_for("the command to get it", || got.exists().then_some(()));
    send("TERM", i64::from(recorder.pid()));
    let group = -i64::from(recorder.pid());
    let recording = recorder.finish();
    assert_eq!(recording.code(), 128 + 15, "{}", recording.stderr);
    assert!(recording.stderr.contains("aborted"), "{}", recording.stderr);
    assert_eq!(fs::read_to_string(&got).expect("it got one"), "more\n");
    let _ = Command::new("kill").args(["-s", "KILL", "--", &group.to_string()]).status();
}

/// A thread that cannot be had at the end costs the second Ctrl-C, which is said, and not the recording.
#[test]
fn no_thread_to_be_had() {
    live!();
    let recorder = Recorder::with(["-d", "0.5"], |command| {
        // No stack of that size can be mapped: the EAGAIN that a limit of tasks would give.
        command.env("RUST_MIN_STACK", (1u64 << 60).to_string());
    });
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    assert!(recording.stderr.contains("for want of a thread"), "{}", recording.stderr);
    recording.assert_books();
}

/// nohup: a hang-up that is ignored ends nothing.
#[test]
fn hang_up_under_nohup() {
    live!();
    let hotframe = hotframe_live::hotframe();
    let nohup = format!(
        "trap '' HUP; '{0}' record --quiet -d 2.5 -o - --format folded >/dev/null & sleep 1; \
         kill -s HUP $!; sleep 0.5; kill -s 0 $! && echo goes on; wait $!; echo $?",
        hotframe.display()
    );
    assert_eq!(run("sh", ["-c", &nohup]), "goes on\n0\n");
}

/// The command gets the limit of descriptors that hotframe got, and under another user's ids that
/// user's name and home.
#[test]
fn environment_of_the_command() {
    live!();
    let limited = format!(
        "ulimit -Sn 777; '{}' record --quiet -d 5 -o /dev/null --format folded -- sh -c 'ulimit -Sn'",
        hotframe_live::hotframe().display()
    );
    assert_eq!(run("sh", ["-c", &limited]), "777\n");
    let said = "echo $HOME $USER $LOGNAME";
    let recording = Recorder::start(["-u", "nobody", "--", "sh", "-c", said]).finish();
    let text = String::from_utf8_lossy(&recording.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words.get(1..), Some(["nobody", "nobody"].as_slice()), "{text}");
    assert_ne!(words.first(), Some(&"/root"), "{text}");
}

/// A command that is there but cannot become one: a shell's code for it, and nothing is written.
#[test]
fn command_that_does_not_run() {
    live!();
    let scratch = Scratch::new();
    let script = scratch.path("script");
    fs::write(&script, "#!/nonexistent/interpreter\n").expect("a script");
    run("chmod", ["+x".as_ref(), script.as_os_str()]);
    let text = scratch.path("text");
    fs::write(&text, "words").expect("a file");
    for (path, code) in [(&script, 127), (&text, 126), (&scratch.path("."), 126)] {
        let recording = Recorder::start(["--".as_ref(), path.as_os_str()]).finish();
        assert_eq!(recording.code(), code, "{}", recording.stderr);
        assert_eq!(recording.stderr.lines().count(), 1, "{}", recording.stderr);
        assert!(!recording.scratch.path("out.folded").exists(), "{}", recording.stderr);
        let is_its_interpreter = recording.stderr.contains("interpreter that it names");
        assert_eq!(is_its_interpreter, path == &script, "{}", recording.stderr);
    }
}

/// Words of the command are bytes, as names of files are: they reach it, and the recording is written.
#[test]
fn words_that_are_no_text() {
    live!();
    use std::os::unix::ffi::OsStrExt as _;
    let word = std::ffi::OsStr::from_bytes(b"a\xff\xfeb");
    let recording =
        Recorder::start(["--".as_ref(), "printf".as_ref(), "%s".as_ref(), word]).finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    assert_eq!(recording.stdout, b"a\xff\xfeb");
    recording.assert_books();

    let scratch = Scratch::new();
    let page = scratch.path(".").join(std::ffi::OsStr::from_bytes(b"p\xff.html"));
    let recording =
        Recorder::start(["-d".as_ref(), "0.3".as_ref(), "-o".as_ref(), page.as_os_str()]);
    let recording = recording.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    assert!(page.exists(), "{}", recording.stderr);
}

/// With a process and a command it is the command that ends the recording: the process may be a server.
#[test]
fn a_command_ends_the_recording_of_a_process() {
    live!();
    let server = hotframe_live::Workload::start(&program!("split"), [""; 0]);
    let pid = server.pid().to_string();
    let recorder = Recorder::start(["-p", &pid, "--", "sh", "-c", "sleep 1; exit 3"]);
    let recording = recorder.finish();
    assert_eq!(recording.code(), 3, "{}", recording.stderr);
    let samples = recording.folded.of("split");
    assert!((1..=300).contains(&samples), "{samples} samples in a second: {}", recording.stderr);
}

/// Without a PATH commands are found where execvp looks for them.
#[test]
fn without_a_path() {
    live!();
    let recording = Recorder::with(["--", "true"], |command| {
        command.env_remove("PATH");
    });
    let recording = recording.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
}

/// A command that does not exist: 127, as in a shell, and nothing is written.
#[test]
fn command_not_found() {
    live!();
    let recording = Recorder::start(["--", "/nonexistent/program"]).finish();
    assert_eq!(recording.code(), 127, "{}", recording.stderr);
    assert!(recording.stderr.contains("/nonexistent/program"), "{}", recording.stderr);
    assert!(!recording.scratch.path("out.folded").exists());
}

/// The environment of sudo: the command and the files belong to the user who called it.
#[test]
fn under_sudo_the_command_is_the_users() {
    live!();
    let scratch = Scratch::new();
    run("chown", ["65534:65534".as_ref(), scratch.path("").as_os_str()]);
    let output = scratch.path("theirs.folded");
    let args = [
        "-o".as_ref(),
        output.as_os_str(),
        "--".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        "id -u; id -g".as_ref(),
    ];
    let recording = Recorder::with(args, |command| {
        command.env("SUDO_UID", "65534").env("SUDO_GID", "65534").env("SUDO_USER", "nobody");
    })
    .finish();
    assert_eq!(
        String::from_utf8_lossy(&recording.stdout),
        "65534\n65534\n",
        "{}",
        recording.stderr
    );
    let owner = fs::metadata(&output).expect("the output").uid();
    assert_eq!(owner, 65534);
}

/// `-u` names the user of the command.
#[test]
fn user_of_the_command() {
    live!();
    let recording = Recorder::start(["-u", "nobody", "--", "id", "-un"]).finish();
    assert_eq!(String::from_utf8_lossy(&recording.stdout), "nobody\n", "{}", recording.stderr);
}

/// As root an output never follows a link: what it points to stays as it was.
#[test]
fn outputs_do_not_follow_links() {
    live!();
    let scratch = Scratch::new();
    let victim = scratch.path("victim");
    fs::write(&victim, "precious").expect("a file");
    let link = scratch.path("link.folded");
    std::os::unix::fs::symlink(&victim, &link).expect("a link");
    let recording =
        Recorder::start(["-d".as_ref(), "1".as_ref(), "-o".as_ref(), link.as_os_str()]).finish();
    assert_eq!(fs::read_to_string(&victim).expect("still there"), "precious");
    // Replacing the link itself and refusing it are both safe.
    if recording.code() == 0 {
        assert!(fs::symlink_metadata(&link).expect("the output").is_file());
    }
}

/// Under sudo a directory's links are followed as far as who called it may.
#[test]
fn directories_are_the_callers() {
    live!();
    let scratch = Scratch::new();
    let (roots, link) = (scratch.path("roots"), scratch.path("link"));
    fs::create_dir(&roots).expect("a directory");
    run("chmod", ["700".as_ref(), roots.as_os_str()]);
    std::os::unix::fs::symlink(&roots, &link).expect("a link");
    let to = |directory: &Path| {
        let output = directory.join("x.folded");
        let args = ["-d".as_ref(), "0.1".as_ref(), "-o".as_ref(), output.as_os_str()];
        let recording = Recorder::with(args, |command| {
            command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        })
        .finish();
        (recording.code(), output.exists(), recording.stderr)
    };
    let (code, is_there, said) = to(&link);
    assert!(code == 1 && !is_there, "{code} {is_there} {said}");
    // By its own name it is what root was asked for.
    let (code, is_there, said) = to(&roots);
    assert!(code == 0 && is_there, "{code} {is_there} {said}");
}

/// Devices and pipes are written as they stand, and stay what they are; a link to one is refused, and so
/// is a pipe that somebody else laid there.
#[test]
fn outputs_that_are_no_files() {
    live!();
    let scratch = Scratch::new();
    let (null, pipe, link) = (scratch.path("null"), scratch.path("pipe"), scratch.path("link"));
    run("mknod", [null.as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    run("mkfifo", [pipe.as_os_str()]);
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).expect("a link");
    let to = |output: &Path| {
        let output = Command::new(hotframe_live::hotframe())
            .args(["record", "--quiet", "-d", "0.3", "--format", "folded", "-o"])
            .args([null.as_path(), "--stats".as_ref(), output])
            .output()
            .expect("hotframe runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, output.stdout)
    };
    let (code, said, _) = to(&null);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::metadata(&null).expect("still there").rdev(), 0x103);

    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe).expect("text"))
    };
    // Who opens a pipe to read waits for a writer.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (code, said, _) = to(&pipe);
    assert_eq!(code, Some(0), "{said}");
    assert!(reader.join().expect("it read").contains("ticks_expected"));

    let (code, said, _) = to(&pipe);
    assert!(code == Some(1) && said.contains("nobody reads"), "{said}");
    run("chown", ["65534".as_ref(), pipe.as_os_str()]);
    let (code, said, _) = to(&pipe);
    assert!(code == Some(1) && said.contains("this user"), "{said}");
    let (code, said, _) = to(&link);
    assert!(code == Some(1) && said.contains("link"), "{said}");
    assert!(fs::symlink_metadata(&link).expect("still there").is_symlink());

    let (code, said, stdout) = to(Path::new("-"));
    assert_eq!(code, Some(0), "{said}");
    assert!(stdout.starts_with(b"{"), "the books are on stdout");
}

/// Two things cannot go to one place, by whatever names; and a format that no output has is no output.
#[test]
fn outputs_that_contradict_each_other() {
    live!();
    let scratch = Scratch::new();
    let refused = |args: &[&str]| {
        let output = Command::new(hotframe_live::hotframe())
            .args(["record", "-d", "0.1"])
            .args(args)
            .current_dir(scratch.path(""))
            .output()
            .expect("hotframe runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert_eq!(fs::read_dir(scratch.path("")).expect("a directory").count(), 0, "{args:?}");
    };
    refused(&["-o", "a.html", "-o", "./a.html"]);
    refused(&["-o", "a.html", "--stats", "a.html"]);
    refused(&["-o", "-", "--format", "folded", "--stats", "-"]);
    refused(&["-o", "a.html", "--format", "folded"]);
    let output = Command::new(hotframe_live::hotframe())
        .args(["record", "--quiet", "-d", "0.1", "--format", "folded"])
        .current_dir(scratch.path(""))
        .output()
        .expect("hotframe runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(scratch.path("hotframe.folded").exists());
}

/// `| head`: who reads has seen enough, and nothing went wrong.
#[test]
fn a_reader_that_leaves() {
    live!();
    let line = format!(
        "{{ '{}' record -d 0.5 --quiet -o - --format otlp; echo $? >&3; }} 3>&1 >/dev/full | cat",
        hotframe_live::hotframe().display()
    );
    assert_eq!(run("sh", ["-c", &line]), "1\n", "a full disk is a failure");
    let line = format!(
        "{{ {{ '{}' record -d 0.5 -o - --format otlp 2>&4; echo $? >&3; }} | true; }} 3>&1 4>&1",
        hotframe_live::hotframe().display()
    );
    let said = run("sh", ["-c", &line]);
    assert!(said.ends_with("\n0\n") && !said.contains("roken pipe"), "{said}");
}

/// Nobody need hear what is said: a full disk under stderr and a terminal that is closed leave the
/// result, where a line that could not be written ended all.
#[test]
fn a_listener_that_leaves() {
    live!();
    let scratch = Scratch::new();
    let hotframe = hotframe_live::hotframe();
    let (full, closed) = (scratch.path("full.folded"), scratch.path("closed.folded"));
    let line = format!(
        "'{}' record -d 0.5 -o '{}' 2>/dev/full; echo $?",
        hotframe.display(),
        full.display()
    );
    assert_eq!(run("sh", ["-c", &line]), "0\n");
    assert!(full.exists());
    if !hotframe_live::has_program("script") {
        return skipped("script(1) is not installed");
    }
    // Without its other end a terminal refuses even the progress line. Where the tests run under nohup
    // the hang-up ends nothing, and the time does.
    let record = format!("'{}' record -d 4 -o '{}'", hotframe.display(), closed.display());
    let line = format!(
        "sleep 9 2>/dev/null | script -qec \"{record}\" /dev/null >/dev/null & sleep 2; kill -s KILL $!; \
         for i in $(seq 80); do [ -e '{}' ] && break; sleep 0.1; done",
        closed.display()
    );
    run("sh", ["-c", &line]);
    assert!(closed.exists());
}

/// Whatever happens to the outputs, no temporary file stays beside them.
#[test]
fn no_temporary_file_stays() {
    live!();
    let scratch = Scratch::new();
    let output = scratch.path("only.folded");
    let args = ["-d".as_ref(), "1".as_ref(), "-o".as_ref(), output.as_os_str()];
    let recording = Recorder::start(args).finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    let names: Vec<_> = fs::read_dir(scratch.path(""))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["only.folded"]);
}

/// Without -o the page is written into the working directory.
#[test]
fn default_output_is_the_page() {
    live!();
    let scratch = Scratch::new();
    let mut command = Command::new(hotframe_live::hotframe());
    let output = command
        .args(["record", "-d", "1"])
        .current_dir(scratch.path(""))
        .output()
        .expect("hotframe runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(scratch.path("hotframe.html")).expect("the page");
    assert!(page.trim_start().to_ascii_lowercase().starts_with("<!doctype html"));
    for fetched in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!page.contains(fetched), "the page fetches from the network: {fetched}");
    }
}

/// `-o -` with `--format` puts the data, and only the data, on stdout.
#[test]
fn data_on_stdout() {
    live!();
    let _burning = hotframe_live::Workload::start(&program!("split"), [""; 0]);
    let recording = Recorder::start(["-d", "2", "-o", "-", "--format", "folded"]).finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    let text = String::from_utf8(recording.stdout).expect("UTF-8");
    let folded = hotframe_live::Folded::parse(&text);
    assert!(folded.of("split") > 0, "{text}");
}

/// Binary data is not written to a terminal.
#[test]
fn binary_to_a_terminal_is_refused() {
    live!();
    if !Path::new("/usr/bin/script").exists() {
        skipped("needs script(1)");
        return;
    }
    let line = format!("{} record -d 1 -o - --format pprof", hotframe_live::hotframe().display());
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("terminal"), "{said}");
}

/// A signal that ends `top` leaves the terminal as it was, on its own screen.
#[test]
fn top_gives_the_terminal_back() {
    live!();
    if !hotframe_live::has_program("script") {
        return skipped("script(1) is not installed");
    }
    let top = hotframe_live::hotframe();
    let command = format!("timeout --foreground -s TERM 3 '{}' top", top.display());
    let screen = run("script", ["-qec", &format!("{command}; true"), "/dev/null"]);
    assert!(screen.contains("\x1b[?1049h"), "{screen:?}");
    assert!(screen.contains("\x1b[?1049l"), "{screen:?}");
}

/// A terminal that is closed ends `top`, also where a hang-up is ignored: it read what is no more there
/// for ever, and took a whole processor for it.
#[test]
fn top_ends_with_its_terminal() {
    live!();
    if !hotframe_live::has_program("script") {
        return skipped("script(1) is not installed");
    }
    for trap in ["", "trap '' HUP;"] {
        let scratch = Scratch::new();
        let pid = scratch.path("pid");
        let top = format!(
            "{trap} echo \\$\\$ >'{}'; exec '{}' top",
            pid.display(),
            hotframe_live::hotframe().display()
        );
        let line = format!(
            "sleep 20 2>/dev/null | script -qec \"{top}\" /dev/null >/dev/null 2>&1 & sleep 3; kill -s KILL $!; \
             pid=$(cat '{}'); for i in $(seq 80); do kill -s 0 $pid || break; sleep 0.1; done 2>/dev/null; \
             kill -s KILL $pid 2>/dev/null && echo runs",
            pid.display()
        );
        assert_eq!(run("sh", ["-c", &format!("{line}; true")]), "", "{trap}");
    }
}

/// Ctrl-Z gives the terminal to the shell, `fg` takes it again.
#[test]
fn top_stops_and_goes_on() {
    live!();
    if !hotframe_live::has_program("script") {
        return skipped("script(1) is not installed");
    }
    let top = hotframe_live::hotframe();
    // What a person types: `script` gives an interactive shell a terminal.
    let keys = format!(
        "(echo '{}' top; sleep 5; printf '\\032'; sleep 1; echo 'echo stopped:$(jobs -s | wc -l)'; sleep 1; \
         echo fg; sleep 2; printf q; sleep 1; echo 'echo left:$(jobs | wc -l)'; echo exit) \
         | script -qec 'bash --norc -i' /dev/null",
        top.display()
    );
    let screen = run("sh", ["-c", &keys]);
    let count = |text: &str| screen.matches(text).count();
    assert_eq!((count("\x1b[?1049h"), count("\x1b[?1049l")), (2, 2), "{screen:?}");
    assert!(screen.contains("stopped:1") && screen.contains("left:0"), "{screen:?}");
}
