#![no_main]
//! The target `cron_oracle` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("cron_oracle", data));
