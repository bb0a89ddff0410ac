//! What a 32-bit reference to a frame may mean. Two bits say which, thirty the number.

/// A reference to a frame, a chain of inlined frames, a place in static code, or a question that
/// is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ref {
    /// A frame by value.
    Frame(u32),
    /// A chain of frames by value, innermost first.
    Chain(u32),
    /// A place in static code, which has names of its own, or none yet.
    Place(u32),
    /// A dynamic frame that a resolver was asked about.
    Pending(u32),
    /// Nothing: a place without names.
    None,
}

/// Ids must stay below this.
pub(crate) const MAX_ID: u32 = (1 << 30) - 1;

impl Ref {
    pub(crate) fn pack(self) -> u32 {
        match self {
            Ref::Frame(id) => id & MAX_ID,
            Ref::Chain(id) => 1 << 30 | id & MAX_ID,
            Ref::Place(id) => 2 << 30 | id & MAX_ID,
            Ref::Pending(id) => 3 << 30 | id & MAX_ID,
            Ref::None => u32::MAX,
        }
    }

    pub(crate) fn unpack(word: u32) -> Ref {
        let id = word & MAX_ID;
        match word >> 30 {
            _ if word == u32::MAX => Ref::None,
            0 => Ref::Frame(id),
            1 => Ref::Chain(id),
            2 => Ref::Place(id),
            _ => Ref::Pending(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_survive_packing() {
        for id in [0, 1, MAX_ID - 1] {
            for it in [Ref::Frame(id), Ref::Chain(id), Ref::Place(id), Ref::Pending(id)] {
                assert_eq!(Ref::unpack(it.pack()), it);
            }
        }
        assert_eq!(Ref::unpack(Ref::None.pack()), Ref::None);
    }
}
