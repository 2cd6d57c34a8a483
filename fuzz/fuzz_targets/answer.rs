//! See `forebay_fuzz::answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| forebay_fuzz::answer::check(input));
