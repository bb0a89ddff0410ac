// SPDX-License-Identifier: Apache-2.0
//! `rusty::main → rusty::outer → <rusty::Engine as rusty::Turn>::turn`, until stopped: a Rust
//! program's names and kind.

use std::hint::black_box;

trait Turn {
    fn turn(&self);
}

struct Engine(u64);

impl Turn for Engine {
    #[inline(never)]
    fn turn(&self) {
        let mut sum = self.0;
        loop {
            sum = black_box(sum.wrapping_mul(5));
        }
    }
}

#[inline(never)]
fn outer(engine: &Engine) {
    engine.turn();
    black_box(engine);
}

fn main() {
    outer(black_box(&Engine(3)));
    black_box(());
}
