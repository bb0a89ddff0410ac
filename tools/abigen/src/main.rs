//! Writes the Rust twin of a C header to stdout: `abigen HEADER > abi.rs` (`make generate`).
//!
//! Structures derive zerocopy's traits, so that decoding a record needs no `unsafe`; bindgen's
//! layout assertions stay on. For each enum listed in `NAMED` a table of its names follows, lower
//! case and without the prefix: they are keys of `--stats`.

use anyhow::Context as _;
use bindgen::callbacks::{DeriveInfo, ParseCallbacks};

/// Enums whose names user space prints: (prefix of the constants, name of the table).
const NAMED: [(&str, &str); 5] = [
    ("HF_COST_", "COST_NAMES"),
    ("HF_CUT_", "CUT_NAMES"),
    ("HF_FILTERED_", "FILTERED_NAMES"),
    ("HF_LOST_", "LOST_NAMES"),
    ("HF_MISSING_", "MISSING_NAMES"),
];

#[derive(Debug)]
struct Derives;

impl ParseCallbacks for Derives {
    fn add_derives(&self, _info: &DeriveInfo<'_>) -> Vec<String> {
        ["FromBytes", "IntoBytes", "Immutable", "KnownLayout"]
            .map(|name| format!("zerocopy::{name}"))
            .to_vec()
    }
}

fn main() -> anyhow::Result<()> {
    let header = std::env::args().nth(1).context("usage: abigen HEADER")?;
    let is_shared = header.contains("/hf/");
    let mut builder = bindgen::Builder::default();
    // Other headers build on the shared one, whose twin is a crate.
    if !is_shared {
        builder = builder.allowlist_recursively(false).raw_line("use hotframe_abi::*;");
    }
    let mut text = builder
        .header(&header)
        .clang_args(["-DHF_ABI_GENERATING", "-Ikernel/include"])
        .allowlist_file(if is_shared { ".*/hf/.*" } else { ".*/(bpf|native)/abi.h" })
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(false)
        .use_core()
        .explicit_padding(true)
        .parse_callbacks(Box::new(Derives))
        .generate_comments(false)
        .disable_header_comment()
        .raw_line(format!("// Generated from {header} by tools/abigen: `make generate`."))
        .generate()?
        .to_string();
    // A runtime's own: why its frames are missing.
    let own = header.strip_prefix("runtimes/").and_then(|rest| rest.split_once('/'));
    let own = own.map(|(name, _)| format!("HF_{}_LOST_", name.to_ascii_uppercase()));
    let own = own.iter().map(|prefix| (prefix.as_str(), "LOST_NAMES"));
    let own = own.filter(|(prefix, _)| text.contains(&format!("pub const {prefix}")));
    let named: Vec<(&str, &str)> = if is_shared { NAMED.to_vec() } else { own.collect() };
    for (prefix, table) in named {
        let mut names = Vec::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(&format!("pub const {prefix}")) else {
                continue;
            };
            let (name, rest) = rest.split_once(": hf_").context("an enum constant has a type")?;
            let value: usize =
                rest.split_once("= ").context("a value")?.1.trim_end_matches(';').parse()?;
            if name != "COUNT" {
                anyhow::ensure!(value == names.len(), "{prefix}{name} leaves a gap");
                names.push(name.to_ascii_lowercase());
            }
        }
        text += &format!("pub const {table}: [&str; {}] = {names:?};\n", names.len());
    }
    print!("{text}");
    Ok(())
}
