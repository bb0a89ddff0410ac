//! A static flame graph as SVG: no scripts, so any viewer and any page shows it.
//!
//! Out: outermost frames at the top (an icicle, as the page draws it), a box for each function
//! with its share of the samples, coloured by kind, with a `<title>` for the tooltip. Siblings are
//! sorted by name, so that two graphs can be compared. Boxes narrower than
//! [`Options::min_width_px`] are left out.
//!
//! # Cost
//! Time and memory linear in stack nodes; the file in boxes that are wide enough to see.

mod write;

pub use write::{Options, write};

pub(crate) const NAME: &str = "SVG";
