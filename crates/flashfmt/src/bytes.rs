//! Little-endian fields of fixed-size records.

/// `N` bytes of `record` from `at`. Callers pass constants with `at + N <= M`.
pub(crate) fn array_at<const N: usize, const M: usize>(record: &[u8; M], at: usize) -> [u8; N] {
    core::array::from_fn(|i| record[at + i])
}

pub(crate) fn u16_at<const M: usize>(record: &[u8; M], at: usize) -> u16 {
    u16::from_le_bytes(array_at(record, at))
}

pub(crate) fn u32_at<const M: usize>(record: &[u8; M], at: usize) -> u32 {
    u32::from_le_bytes(array_at(record, at))
}

/// Copies `field` into `record` at `at`. Callers pass constants with `at + N <= M`.
pub(crate) fn put<const N: usize, const M: usize>(record: &mut [u8; M], at: usize, field: [u8; N]) {
    record[at..at + N].copy_from_slice(&field);
}
