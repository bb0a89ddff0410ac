//! `record_process SPEC OUT_DIR`: makes a case of `testing/recorded` without runtimes (see
//! `hotframe_core::testing::record`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    hotframe_core::testing::record::main(&[])
}
