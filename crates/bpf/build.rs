//! Compiles the kernel half: one object for kernels with an arena, one for
//! those without, and one that names kernel addresses.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // Not as compiled: a target folder that was copied would build the kernel half of its origin.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = Path::new(&manifest).join("../..");
    let kernel = root.join("kernel");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let libbpf = std::env::var("DEP_BPF_INCLUDE").expect("libbpf-sys tells its headers");
    let arch = match std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it").as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => panic!("hotframe runs on x86-64 and arm64, not on {other}"),
    };
    for (name, source, define) in [
        ("hotframe-arena.bpf.o", "hotframe.bpf.c", "-DHF_ARENA"),
        ("hotframe-array.bpf.o", "hotframe.bpf.c", "-DHF_ARRAY"),
        ("ksyms.bpf.o", "ksyms.bpf.c", "-DHF_ARRAY"),
    ] {
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
        let status = Command::new(&clang)
            .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-D__BPF__", "-Wall", "-Werror"])
            .args(["-Wno-unused-function", define, &format!("-D__TARGET_ARCH_{arch}")])
            .arg("-I")
            .arg(kernel.join("include"))
            .arg("-I")
            .arg(root.join("runtimes"))
            .args(["-I", &libbpf, "-c"])
            .arg(kernel.join(source))
            .arg("-o")
            .arg(out.join(name))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => panic!("{clang} could not compile kernel/{source}"),
            Err(cause) => panic!("starting {clang} (install clang 14 or later): {cause}"),
        }
    }
    println!("cargo:rerun-if-changed={}", kernel.display());
    println!("cargo:rerun-if-changed={}", root.join("runtimes").display());
    println!("cargo:rerun-if-env-changed=CLANG");
}
