//! Names as users know them: `package.Class.method`.
//!
//! HotSpot writes classes with slashes (`java/lang/String`). Classes that are made at run time have
//! a number or an address in their name, another one in every process and for every lambda: it is
//! left out, so that a million of them are one name.
//!
//! Sources: `InstanceKlass::external_name`, `ClassFileParser::mangle_hidden_class_name` @ jdk-17+35
//! (a hidden class is its host's name, `+` and an address); `Proxy`, `MethodAccessorGenerator`,
//! `InnerClassLambdaMetafactory` of java.base @ the same for the numbers.

/// Classes whose trailing number says nothing: what precedes it.
const NUMBERED: [&[u8]; 6] = [
    b"$$Lambda$",
    b"GeneratedMethodAccessor",
    b"GeneratedConstructorAccessor",
    b"GeneratedSerializationConstructorAccessor",
    b"$Proxy",
    b"LambdaForm$",
];

/// `package.Class.method` of a class and a method as HotSpot names them.
pub fn method(class: &[u8], method: &[u8]) -> Vec<u8> {
    let mut name: Vec<u8> =
        normalised(class).iter().map(|&byte| if byte == b'/' { b'.' } else { byte }).collect();
    name.push(b'.');
    name.extend_from_slice(method);
    name
}

/// A class's name without what differs from one run to the next.
fn normalised(class: &[u8]) -> &[u8] {
    let mut name = class;
    // `Host$$Lambda$14+0x00007f…`, `Host$$Lambda/0x00007f…`
    let address = name
        .windows(3)
        .position(|three| matches!(three, b"+0x" | b"/0x"))
        .filter(|&at| at > 0 && name[at + 3..].iter().all(u8::is_ascii_hexdigit));
    if let Some(at) = address {
        name = &name[..at];
    }
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = &name[..name.len() - digits];
    if digits > 0 && NUMBERED.iter().any(|prefix| stem.ends_with(prefix)) {
        name = stem.strip_suffix(b"$").unwrap_or(stem);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(class: &str, expect: &str) {
        let got = method(class.as_bytes(), b"run");
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
        check("jdk/proxy2/$Proxy11", "jdk.proxy2.$Proxy");
    }
}
