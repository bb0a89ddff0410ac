//! Compiles the walk natively.

fn main() {
    cc::Build::new()
        .file("../../kernel/native/walk.c")
        .include("../../kernel/include")
        .include("../../runtimes")
        .opt_level(2)
        .warnings(true)
        .compile("hf_walk_native");
    println!("cargo:rerun-if-changed=../../kernel/native");
    println!("cargo:rerun-if-changed=../../kernel/include");
    println!("cargo:rerun-if-changed=../../runtimes");
}
