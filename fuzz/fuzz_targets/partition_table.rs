#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::partition_table::Input| {
    fuzz::targets::partition_table::run(input)
});
