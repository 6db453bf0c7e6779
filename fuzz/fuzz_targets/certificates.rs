#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::certificates::Input| fuzz::targets::certificates::run(
    input
));
