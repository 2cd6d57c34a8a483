//! See `forebay_fuzz::record_batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| forebay_fuzz::record_batch::check(input));
