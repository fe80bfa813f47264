//! How long a calendar takes to parse and to search: `cargo run --release -p dtask-core --example
//! cron_speed`.

use std::hint::black_box;
use std::time::Instant;

use dtask_core::spec::cron::Calendar;
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;

fn main() {
    for expr in ["* * * * *", "*/5 9-17 * * 1-5", "30 2 * * *", "0 0 L * *", "0 0 */29 2 1"] {
        let parse = || Calendar::parse(expr, "Europe/Paris", DstGap::Auto, DstFold::Auto);
        let start = Instant::now();
        for _ in 0..1_000 {
            let _ = black_box(parse());
        }
        let parsed = start.elapsed() / 1_000;
        let calendar = parse().expect("valid");
        let start = Instant::now();
        let (mut at, mut searches) = (Timestamp::from_seconds(1_767_225_600), 0_u32);
        while let Some(next) = calendar.next_after(at) {
            (at, searches) = (next, searches + 1);
            if searches == 50_000 {
                break;
            }
        }
        let found = start.elapsed() / searches;
        println!("{expr:20} parse {parsed:?}, next {found:?} over {searches} fire times");
    }
}
