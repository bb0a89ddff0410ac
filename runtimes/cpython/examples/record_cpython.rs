//! `record_cpython SPEC OUT_DIR`: makes a case of `testing/recorded/cpython` (see
//! `hotframe_core::testing::record`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    hotframe_core::testing::record::main(&[&hotframe_cpython::RUNTIME])
}
