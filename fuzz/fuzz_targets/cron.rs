#![no_main]
//! The target `cron` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("cron", data));
