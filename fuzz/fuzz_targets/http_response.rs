#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::http_response::Input| fuzz::targets::http_response::run(
    input
));
