#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::partition_csv::Input| fuzz::targets::partition_csv::run(
    input
));
