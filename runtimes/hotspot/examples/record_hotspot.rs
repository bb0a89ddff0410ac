//! `record_hotspot SPEC OUT_DIR`: makes a case of `testing/recorded/hotspot` (see
//! `hotframe_core::testing::record`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    hotframe_core::testing::record::main(&[&hotframe_hotspot::RUNTIME])
}
