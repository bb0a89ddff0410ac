//! Names as people write them: C++ (Itanium ABI) and Rust (legacy and v0) demangled.
//!
//! In: a symbol's bytes, at most [`SYMBOL_MAX_BYTES`] of them. Out: text of at most
//! [`NAME_MAX_BYTES`], cut with `…`, and whether the mangling is Rust's. A name that is not mangled,
//! or not well, comes out as it went in. Hostile names cost bounded time, depth and memory: both
//! demanglers have a recursion limit, and output stops at the bound.
//!
//! # Not handled
//! cpp_demangle 0.5.1 leaves out the first parameter of a constructor that is itself a template, and
//! does not say which type a literal template argument has.

use std::fmt::{self, Write};

/// Longest symbol that is read; the rest is cut off (such a symbol is then shown mangled).
pub(crate) const SYMBOL_MAX_BYTES: usize = 16 << 10;
/// Longest demangled name.
pub(crate) const NAME_MAX_BYTES: usize = 4 << 10;
/// Nesting of types in a name: ten times what the deepest template of libLLVM needs.
const RECURSION_MAX: u32 = 160;

/// A demangled name.
pub(crate) struct Demangled {
    pub(crate) name: String,
    pub(crate) rust: bool,
}

/// Demangles `symbol`; `None` if it is not mangled.
pub(crate) fn demangle(symbol: &str) -> Option<Demangled> {
    if !symbol.starts_with("_Z") && !symbol.starts_with("_R") && !symbol.starts_with("__Z") {
        return None;
    }
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        let mut out = Bounded::default();
        // An error says only that the bound was reached: what is written so far is the name.
        let _ = write!(out, "{rust:#}");
        return Some(Demangled { name: out.finish(), rust: true });
    }
    if !symbol.starts_with("_Z") {
        return None;
    }
    let parse = cpp_demangle::ParseOptions::default().recursion_limit(RECURSION_MAX);
    let options = cpp_demangle::DemangleOptions::new()
        .recursion_limit(RECURSION_MAX)
        .hide_expression_literal_types();
    let parsed = cpp_demangle::Symbol::new_with_options(symbol, &parse).ok()?;
    let mut out = Bounded::default();
    if parsed.structured_demangle(&mut out, &options).is_err() && !out.full {
        return None;
    }
    Some(Demangled { name: out.finish(), rust: false })
}

/// A symbol as people write it: demangled where it is mangled, else as it is; bounded in length.
pub fn readable(symbol: &str) -> String {
    demangle(symbol).map_or_else(|| bounded(symbol), |demangled| demangled.name)
}

/// `name` cut to [`NAME_MAX_BYTES`].
pub(crate) fn bounded(name: &str) -> String {
    let mut out = Bounded::default();
    let _ = out.write_str(name);
    out.finish()
}

#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    fn finish(mut self) -> String {
        if self.full {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = NAME_MAX_BYTES - self.text.len().min(NAME_MAX_BYTES);
        if self.full || text.len() > room {
            if !self.full {
                self.text.push_str(&text[..text.floor_char_boundary(room)]);
                self.full = true;
            }
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(symbol: &str, expect: &str, rust: bool) {
        let got = demangle(symbol).expect("mangled");
        assert_eq!((got.name.as_str(), got.rust), (expect, rust));
    }

    #[test]
    fn both_manglings_of_rust_lose_their_hash() {
        check(
            "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
            "core::fmt::Write::write_fmt",
            true,
        );
        check("_RNvC6_123foo3bar", "123foo::bar", true);
    }

    #[test]
    fn clones_of_cpp_functions_say_so() {
        check("_ZN3FooC2Ei", "Foo::Foo(int)", false);
        check("_Z3foov.cold", "foo() [clone .cold]", false);
    }

    /// Known and wrong: c++filt has `A::A<int>(unsigned long, char)`. When this fails, the module's
    /// documentation loses a sentence.
    #[test]
    fn templated_constructors_lose_a_parameter() {
        check("_ZN1AC1IiEEmc", "A::A<int>(char)", false);
    }

    #[test]
    fn names_that_are_not_mangled_are_left_alone() {
        assert!(demangle("main").is_none());
        assert!(demangle("_Zebra").is_none());
    }

    /// Each `S_` of such a name doubles the text: 30 of them would be gigabytes.
    #[test]
    fn a_name_that_explodes_is_cut() {
        let mut symbol = "_Z1fI1aE".to_owned();
        symbol.truncate(4);
        symbol.push_str("St4pairIiiE");
        for n in 0..28 {
            let back = if n == 0 { "S0_".to_owned() } else { format!("S{}_", radix36(n)) };
            symbol.push_str(&format!("St4pairI{back}{back}E"));
        }
        if let Some(got) = demangle(&symbol) {
            assert!(got.name.len() <= NAME_MAX_BYTES + '…'.len_utf8());
        }
        assert!(bounded(&"x".repeat(100_000)).len() <= NAME_MAX_BYTES + '…'.len_utf8());
    }

    fn radix36(n: u32) -> String {
        let digit = |d: u32| char::from_digit(d, 36).unwrap().to_ascii_uppercase();
        if n < 36 { digit(n).to_string() } else { format!("{}{}", digit(n / 36), digit(n % 36)) }
    }
}
