//! The examples that `--help` shows are what the binary prints: each command of a transcript is run
//! again and compared. UPDATE=1 rewrites them. What differs from machine to machine (`record`, `top`,
//! `doctor`) was taken from a terminal, and is not run here.

use std::path::Path;
use std::process::Command;

/// A service before and after a change of its parser.
const BEFORE: &str = "\
api;main;serve;handle;parse_query;scan_token 212
api;main;serve;handle;parse_query 88
api;main;serve;handle;render;write_json 341
api;main;serve;handle;render;escape 97
api;main;serve;accept 31
";
const AFTER: &str = "\
api;main;serve;handle;parse_query;scan_token 61
api;main;serve;handle;parse_query 90
api;main;serve;handle;render;write_json 352
api;main;serve;handle;render;escape 91
api;main;serve;accept 30
";

fn check(name: &str, commands: &[&str]) {
    let folder =
        std::env::temp_dir().join(format!("hotframe-transcript-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a directory");
    for (file, text) in [("before.folded", BEFORE), ("after.folded", AFTER)] {
        std::fs::write(folder.join(file), text).expect("written");
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_hotframe"));
    let own = binary.parent().expect("a folder").display();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
    let mut text = String::from("Example:\n");
    for command in commands {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .env("PATH", &path)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .current_dir(&folder)
            .output()
            .expect("runs");
        text.push_str(&format!("  $ {command}\n"));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/transcripts/{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).expect("written");
    }
    let expected = std::fs::read_to_string(&file).expect("a transcript");
    assert_eq!(text, expected, "{}: UPDATE=1 rewrites it", file.display());
}

#[test]
fn convert() {
    check(
        "convert",
        &[
            "hotframe convert before.folded before.pb.gz",
            "hotframe convert before.pb.gz - --format folded | head -2",
        ],
    );
}

#[test]
fn diff() {
    check("diff", &["hotframe diff --top 3 before.folded after.folded"]);
}

#[test]
fn completions() {
    check("completions", &["hotframe completions bash | head -3"]);
}

#[test]
fn man() {
    check("man", &["hotframe man pages && ls pages"]);
}

/// It serves until a signal ends it, and the port of the example is its own.
#[test]
fn view() {
    check("view", &["timeout 2 hotframe view --port 38473 before.folded"]);
}
