//! Names as users know them: `package.Class.method`.
//!
//! HotSpot writes classes with slashes (`java/lang/String`). Classes that are made at run time have
//! a number or an address in their name, another one in every process and for every lambda: it is
//! left out, so that a million of them are one name, unless the user wants them
//! ([`Naming::java_raw_names`]).
//!
//! Sources: `InstanceKlass::external_name`, `ClassFileParser::mangle_hidden_class_name` @ jdk-17+35
//! (a hidden class is its host's name, `+` and an address); `Proxy`, `MethodAccessorGenerator`,
//! `InnerClassLambdaMetafactory` of java.base @ the same for the numbers.

use hotframe_runtime::Naming;

/// An array has no more dimensions (JVM specification 4.4.1).
const DIMENSIONS_MAX: usize = 255;

/// Classes whose trailing number says nothing: what precedes it.
const NUMBERED: [&[u8]; 6] = [
    b"$$Lambda$",
    b"GeneratedMethodAccessor",
    b"GeneratedConstructorAccessor",
    b"GeneratedSerializationConstructorAccessor",
    b"$Proxy",
    b"LambdaForm$",
];

/// `package.Class.method` of a class and a method as HotSpot names them; with the signature, the types
/// of its parameters follow: `(int, java.lang.String[])`.
pub fn method(class: &[u8], method: &[u8], signature: Option<&[u8]>, naming: Naming) -> Vec<u8> {
    let mut name = if naming.java_raw_names { raw(class) } else { normalised(class) };
    name.push(b'.');
    name.extend_from_slice(method);
    // One that makes no sense is left out.
    name.extend(signature.and_then(parameters).unwrap_or_default());
    utf8(name)
}

/// As UTF-8. Symbols are in the class file's form of it (JVM specification 4.4.7): 0 is two bytes, and
/// what needs four is two surrogates of three each. Whatever else there is stays as it is.
fn utf8(name: Vec<u8>) -> Vec<u8> {
    if !name.iter().any(|byte| matches!(byte, 0xc0 | 0xed)) {
        return name;
    }
    let mut text = Vec::with_capacity(name.len());
    let mut rest = name.as_slice();
    while let Some((&first, behind)) = rest.split_first() {
        match *rest {
            [0xc0, 0x80, ..] => {
                text.push(0);
                rest = &rest[2..];
            }
            [
                0xed,
                a @ 0xa0..=0xaf,
                b @ 0x80..=0xbf,
                0xed,
                c @ 0xb0..=0xbf,
                d @ 0x80..=0xbf,
                ..,
            ] => {
                let high = u32::from(a & 0xf) << 6 | u32::from(b & 0x3f);
                let low = u32::from(c & 0xf) << 6 | u32::from(d & 0x3f);
                let code = char::from_u32(0x1_0000 + (high << 10 | low)).unwrap_or('\u{fffd}');
                text.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[6..];
            }
            _ => {
                text.push(first);
                rest = behind;
            }
        }
    }
    text
}

/// The address of a hidden class: `Host$$Lambda$14+0x00007f…`, before 15 `Host$$Lambda$14/0x00007f…`.
fn address(class: &[u8]) -> Option<usize> {
    class
        .windows(3)
        .position(|three| matches!(three, b"+0x" | b"/0x"))
        .filter(|&at| at > 0 && class[at + 3..].iter().all(u8::is_ascii_hexdigit))
}

fn dotted(class: &[u8]) -> Vec<u8> {
    class.iter().map(|&byte| if byte == b'/' { b'.' } else { byte }).collect()
}

/// A class's name as Java prints it (`Class::getName`).
fn raw(class: &[u8]) -> Vec<u8> {
    let mut name = dotted(class);
    if let Some(slash) = address(class).and_then(|at| name.get_mut(at)) {
        *slash = b'/';
    }
    name
}

/// A class's name without what differs from one run to the next.
fn normalised(class: &[u8]) -> Vec<u8> {
    let name = &class[..address(class).unwrap_or(class.len())];
    let stem = without_number(name);
    if stem == name || !NUMBERED.iter().any(|prefix| stem.ends_with(prefix)) {
        return dotted(name);
    }
    // Proxies of each loader have a package of its own: `jdk/proxy2/$Proxy11`.
    if let Some(package) = stem.strip_suffix(b"/$Proxy") {
        let unnumbered = without_number(package);
        if unnumbered == b"jdk/proxy" || unnumbered.ends_with(b"/jdk/proxy") {
            return dotted(&[unnumbered, b"/$Proxy"].concat());
        }
    }
    dotted(stem.strip_suffix(b"$").unwrap_or(stem))
}

/// A name without the digits at its end.
fn without_number(name: &[u8]) -> &[u8] {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    &name[..name.len() - digits]
}

/// The parameters of a descriptor (JVM specification 4.3.3): `(I[Ljava/lang/String;)V` is
/// `(int, java.lang.String[])`.
fn parameters(descriptor: &[u8]) -> Option<Vec<u8>> {
    let mut rest = descriptor.strip_prefix(b"(")?;
    let mut text = vec![b'('];
    while !rest.starts_with(b")") {
        let dimensions = rest.iter().take_while(|&&byte| byte == b'[').count();
        if dimensions > DIMENSIONS_MAX {
            return None;
        }
        let (&kind, mut behind) = rest[dimensions..].split_first()?;
        if text.len() > 1 {
            text.extend_from_slice(b", ");
        }
        match kind {
            b'B' => text.extend_from_slice(b"byte"),
            b'C' => text.extend_from_slice(b"char"),
            b'D' => text.extend_from_slice(b"double"),
            b'F' => text.extend_from_slice(b"float"),
            b'I' => text.extend_from_slice(b"int"),
            b'J' => text.extend_from_slice(b"long"),
            b'S' => text.extend_from_slice(b"short"),
            b'Z' => text.extend_from_slice(b"boolean"),
            b'L' => {
                let end = behind.iter().position(|&byte| byte == b';').filter(|&end| end > 0)?;
                text.extend(dotted(&behind[..end]));
                behind = &behind[end + 1..];
            }
            _ => return None,
        }
        for _ in 0..dimensions {
            text.extend_from_slice(b"[]");
        }
        rest = behind;
    }
    text.push(b')');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(class: &str, expect: &str) {
        let got = method(class.as_bytes(), b"run", None, Naming::default());
        assert_eq!(String::from_utf8_lossy(&got), format!("{expect}.run"), "{class}");
    }

    /// Slashes become dots; nothing else of an ordinary name changes.
    #[test]
    fn ordinary_names() {
        check("java/lang/String", "java.lang.String");
        check("Main", "Main");
        check("a/Outer$1", "a.Outer$1");
        check("a/Outer$Inner2", "a.Outer$Inner2");
        check("Crc32", "Crc32");
    }

    /// Numbers and addresses of classes made at run time are left out.
    #[test]
    fn generated_names() {
        check("a/Main$$Lambda$14+0x0000000800c03000", "a.Main$$Lambda");
        check("a/Main$$Lambda+0x0000000800c03000", "a.Main$$Lambda");
        check("a/Main$$Lambda$14/0x0000000800c03000", "a.Main$$Lambda");
        check("a/Main$$Lambda/0x000000001a003000", "a.Main$$Lambda");
        check(
            "java/lang/invoke/LambdaForm$MH+0x0000000800c01000",
            "java.lang.invoke.LambdaForm$MH",
        );
        check(
            "jdk/internal/reflect/GeneratedMethodAccessor12",
            "jdk.internal.reflect.GeneratedMethodAccessor",
        );
        check("com/sun/proxy/$Proxy7", "com.sun.proxy.$Proxy");
        check("jdk/proxy2/$Proxy11", "jdk.proxy.$Proxy");
        check("com/sun/proxy/jdk/proxy31/$Proxy7", "com.sun.proxy.jdk.proxy.$Proxy");
        // Somebody's own.
        check("a/proxy2/$Proxy7", "a.proxy2.$Proxy");
        check("jdk/proxy2/Proxy7", "jdk.proxy2.Proxy7");
    }

    /// Characters beyond 16 bits, of which a class file has two halves, and its form of 0.
    #[test]
    fn beyond_sixteen_bits() {
        let check = |class: &[u8], expect: &str| {
            let got = method(class, b"run", None, Naming::default());
            assert_eq!(String::from_utf8_lossy(&got), format!("{expect}.run"));
        };
        check("a/Größe".as_bytes(), "a.Größe");
        check(b"a/\xed\xa0\xbd\xed\xb8\x80b", "a.\u{1f600}b");
        check(b"\xed\xaf\xbf\xed\xbf\xbf", "\u{10ffff}");
        check(b"a\xc0\x80b", "a\0b");
        // Halves without their other half are none of UTF-8.
        check(b"\xed\xa0\xbd/x", "\u{fffd}\u{fffd}\u{fffd}.x");
        check(b"\xed\xb8\x80\xed\xa0\xbd", &"\u{fffd}".repeat(6));
        // 16 bits that are no half.
        check("\u{d7ff}\u{e000}".as_bytes(), "\u{d7ff}\u{e000}");
    }

    /// Those who want them have the names that Java prints.
    #[test]
    fn raw_names() {
        let check = |class: &str, expect: &str| {
            let naming = Naming { java_raw_names: true, ..Naming::default() };
            let got = method(class.as_bytes(), b"run", None, naming);
            assert_eq!(String::from_utf8_lossy(&got), format!("{expect}.run"), "{class}");
        };
        check("java/lang/String", "java.lang.String");
        check("a/Main$$Lambda$14+0x0000000800c03000", "a.Main$$Lambda$14/0x0000000800c03000");
        check("a/Main$$Lambda/0x0000000800c03000", "a.Main$$Lambda/0x0000000800c03000");
        check("jdk/proxy2/$Proxy11", "jdk.proxy2.$Proxy11");
    }

    /// The types of parameters as they are written in Java; none of a descriptor that is none.
    #[test]
    fn signatures() {
        let check = |descriptor: &str, expect: &str| {
            let got = method(b"a/B", b"c", Some(descriptor.as_bytes()), Naming::default());
            assert_eq!(String::from_utf8_lossy(&got), format!("a.B.c{expect}"), "{descriptor}");
        };
        check("()V", "()");
        check("(I[Ljava/lang/String;)V", "(int, java.lang.String[])");
        check("(BCDFIJSZ)[I", "(byte, char, double, float, int, long, short, boolean)");
        check("([[J[[[La/B$C;)La/B;", "(long[][], a.B$C[][][])");
        let most = "[".repeat(255);
        check(&format!("({most}I)V"), &format!("(int{})", "[]".repeat(255)));
        for damaged in ["", "(", "(I", "(V)V", "(L;)V", "(La/B)V", "([", "([)V", "I", "(Q)"] {
            check(damaged, "");
        }
        check(&format!("([{most}I)V"), "");
    }
}
