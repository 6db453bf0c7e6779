//! What a device computes for trust: one signature and one digest per chunk.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use manifest::{CHUNK_BYTES, Digest, Manifest, PublisherKeys, PublisherSigningKey, Sequence, Signed};

fn manifest(criterion: &mut Criterion) {
    let key = PublisherSigningKey::new(p256::SecretKey::from_slice(&[1; 32]).unwrap());
    let keys = PublisherKeys::from_iter([key.publisher_key()]);
    let image = vec![0xa5; 1024 * 1024];
    let manifest = Manifest::describe(&image, Sequence(1), "lamp", 5, "1.0.0").unwrap();
    let signed = Signed::sign(&manifest, &key).unwrap();
    criterion.bench_function("manifest verify (1 MiB image)", |bencher| {
        bencher.iter(|| black_box(&signed).verify(black_box(&keys)).unwrap());
    });

    let chunk = vec![0xa5; CHUNK_BYTES as usize];
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(CHUNK_BYTES.into()));
    group.bench_function("verify (64 KiB)", |bencher| bencher.iter(|| Digest::of(black_box(&chunk))));
    group.finish();
}

criterion_group!(benches, manifest);
criterion_main!(benches);
