//! Any bytes as what the updater wrote for itself: install record, outcome, retained register, access point.

use updater::{InstallRecord, Retained, Start};
use updater_io::platform::AccessPoint;
use wire::{Outcome, Reason, ResetCause};

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    if let Ok(record) = InstallRecord::from_cbor(data) {
        assert_eq!(InstallRecord::from_cbor(&record.to_cbor()).unwrap(), record);
    }
    if let Ok(outcome) = minicbor::decode::<Outcome>(data) {
        let written = minicbor::to_vec(outcome).unwrap();
        assert_eq!(minicbor::decode::<Outcome>(&written).unwrap(), outcome);
        assert!(Reason::from_code(outcome.reason).is_none_or(|reason| reason.code() == outcome.reason));
    }
    if let Some(bits) = data.first_chunk().copied().map(u32::from_le_bytes) {
        let retained = Retained::from_bits(bits);
        assert!(retained.is_none_or(|retained| retained.to_bits() == bits));
        let cause = ResetCause::from_code(u32::from(data.get(4).copied().unwrap_or_default()));
        let next = Start::new(bits, cause).retained;
        assert_eq!(Retained::from_bits(next.to_bits()), Some(next));
    }
    if let Some(bytes) = data.first_chunk::<8>() {
        assert_eq!(AccessPoint::from_bytes(*bytes).to_bytes(), *bytes);
    }
}
