//! Reason codes: why something was done, refused or failed.

use core::fmt;

/// Why an install, a refusal or a failure happened.
///
/// Codes leave the device and are stored by servers: append-only, never renumbered. The hundreds say who is to
/// blame: 1xx the manifest, 2xx the image, 3xx the server or the network, 4xx the flash, 5xx the updater or
/// its provisioning, 6xx the application. `docs/protocol.md` holds the table; a test keeps it in step with this enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Reason {
    /// The release was installed.
    Installed = 1,

    /// The manifest is not a COSE_Sign1 with a manifest in it.
    ManifestMalformed = 100,
    /// No publisher key of the vault verifies the signature.
    ManifestSignature = 101,
    /// The sequence number is older than the installed one and no signed revert allows it.
    SequenceOlder = 102,
    /// The sequence number is the installed one, the image is another.
    SequenceReused = 103,
    /// The manifest is for another product.
    ProductMismatch = 104,
    /// The manifest is for another chip.
    ChipMismatch = 105,
    /// The image does not fit the slot.
    ImageTooLarge = 106,
    /// The manifest has expired.
    ManifestExpired = 107,
    /// The manifest asks for something that this updater does not know.
    ManifestUnsupported = 108,

    /// A chunk has another digest than the manifest says.
    ChunkDigest = 200,
    /// The whole image has another digest than the manifest says.
    ImageDigest = 201,
    /// The bytes are right and yet no bootable image for this chip.
    ImageInvalid = 202,

    /// No network could be joined.
    NetworkUnreachable = 300,
    /// The server's name could not be resolved.
    NameResolution = 301,
    /// No TCP connection to the server.
    ServerUnreachable = 302,
    /// The server's certificate or handshake was refused.
    TlsRefused = 303,
    /// The connection ended or broke in the middle.
    ConnectionLost = 304,
    /// The server was too slow.
    Timeout = 305,
    /// The answer is not HTTP, not CBOR, or breaks a length or range.
    ServerProtocol = 306,
    /// The server refused this device (revoked, or not known).
    DeviceRefused = 307,
    /// The server refused the enrollment (wrong or used token).
    EnrollmentRefused = 308,
    /// The server has taken the enrollment and asks for patience (EST 202).
    EnrollmentPending = 309,
    /// The server failed (5xx).
    ServerFailed = 310,
    /// The artifact is not on the server.
    ArtifactMissing = 311,
    /// The certificate issued is not for this device's key.
    CertificateMismatch = 312,
    /// The certificate issued is not one that the device's trust anchors vouch for, or it has ended.
    CertificateUntrusted = 313,

    /// Reading flash failed.
    FlashRead = 400,
    /// Erasing or writing flash failed, or what was written does not read back.
    FlashWrite = 401,
    /// The partition table is not valid, or a partition is missing.
    PartitionTable = 402,
    /// The vault could not be opened or written.
    Vault = 403,

    /// The vault lacks what is needed to reach a server.
    NotProvisioned = 500,
    /// The updater died three times in a row in the network phase.
    NetworkPhaseDeaths = 501,
    /// The time budget was used up.
    BudgetSpent = 502,
    /// A key could not be made or used.
    Crypto = 503,
    /// The updater met a state that must not occur.
    Internal = 504,
    /// No application is installed, and the server offers none.
    NothingToRun = 505,

    /// With the hand-over by otadata: the application marked itself valid, and the bootloader started it ever since
    /// without the updater.
    ApplicationConfirmedItself = 600,
}

impl Reason {
    /// Every reason, in ascending order of its code.
    pub const ALL: &'static [Self] = &[
        Self::Installed,
        Self::ManifestMalformed,
        Self::ManifestSignature,
        Self::SequenceOlder,
        Self::SequenceReused,
        Self::ProductMismatch,
        Self::ChipMismatch,
        Self::ImageTooLarge,
        Self::ManifestExpired,
        Self::ManifestUnsupported,
        Self::ChunkDigest,
        Self::ImageDigest,
        Self::ImageInvalid,
        Self::NetworkUnreachable,
        Self::NameResolution,
        Self::ServerUnreachable,
        Self::TlsRefused,
        Self::ConnectionLost,
        Self::Timeout,
        Self::ServerProtocol,
        Self::DeviceRefused,
        Self::EnrollmentRefused,
        Self::EnrollmentPending,
        Self::ServerFailed,
        Self::ArtifactMissing,
        Self::CertificateMismatch,
        Self::CertificateUntrusted,
        Self::FlashRead,
        Self::FlashWrite,
        Self::PartitionTable,
        Self::Vault,
        Self::NotProvisioned,
        Self::NetworkPhaseDeaths,
        Self::BudgetSpent,
        Self::Crypto,
        Self::Internal,
        Self::NothingToRun,
        Self::ApplicationConfirmedItself,
    ];

    /// The code that leaves the device.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason of a code; `None` for a code of a newer updater.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// The kebab-case name used in JSON and in the docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::ManifestMalformed => "manifest-malformed",
            Self::ManifestSignature => "manifest-signature",
            Self::SequenceOlder => "sequence-older",
            Self::SequenceReused => "sequence-reused",
            Self::ProductMismatch => "product-mismatch",
            Self::ChipMismatch => "chip-mismatch",
            Self::ImageTooLarge => "image-too-large",
            Self::ManifestExpired => "manifest-expired",
            Self::ManifestUnsupported => "manifest-unsupported",
            Self::ChunkDigest => "chunk-digest",
            Self::ImageDigest => "image-digest",
            Self::ImageInvalid => "image-invalid",
            Self::NetworkUnreachable => "network-unreachable",
            Self::NameResolution => "name-resolution",
            Self::ServerUnreachable => "server-unreachable",
            Self::TlsRefused => "tls-refused",
            Self::ConnectionLost => "connection-lost",
            Self::Timeout => "timeout",
            Self::ServerProtocol => "server-protocol",
            Self::DeviceRefused => "device-refused",
            Self::EnrollmentRefused => "enrollment-refused",
            Self::EnrollmentPending => "enrollment-pending",
            Self::ServerFailed => "server-failed",
            Self::ArtifactMissing => "artifact-missing",
            Self::CertificateMismatch => "certificate-mismatch",
            Self::CertificateUntrusted => "certificate-untrusted",
            Self::FlashRead => "flash-read",
            Self::FlashWrite => "flash-write",
            Self::PartitionTable => "partition-table",
            Self::Vault => "vault",
            Self::NotProvisioned => "not-provisioned",
            Self::NetworkPhaseDeaths => "network-phase-deaths",
            Self::BudgetSpent => "budget-spent",
            Self::Crypto => "crypto",
            Self::Internal => "internal",
            Self::NothingToRun => "nothing-to-run",
            Self::ApplicationConfirmedItself => "application-confirmed-itself",
        }
    }

    /// One sentence for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Installed => "the release was installed",
            Self::ManifestMalformed => "the manifest is not a signed manifest",
            Self::ManifestSignature => "no publisher key of this device verifies the signature",
            Self::SequenceOlder => "the sequence number is older than the installed one",
            Self::SequenceReused => "the sequence number is the installed one, the image is another",
            Self::ProductMismatch => "the manifest is for another product",
            Self::ChipMismatch => "the manifest is for another chip",
            Self::ImageTooLarge => "the image does not fit the slot",
            Self::ManifestExpired => "the manifest has expired",
            Self::ManifestUnsupported => "the manifest asks for something that this updater does not know",
            Self::ChunkDigest => "a chunk has another digest than the manifest says",
            Self::ImageDigest => "the image has another digest than the manifest says",
            Self::ImageInvalid => "the image is not bootable on this chip",
            Self::NetworkUnreachable => "no network could be joined",
            Self::NameResolution => "the server's name could not be resolved",
            Self::ServerUnreachable => "no connection to the server",
            Self::TlsRefused => "the server's certificate or handshake was refused",
            Self::ConnectionLost => "the connection broke",
            Self::Timeout => "the server was too slow",
            Self::ServerProtocol => "the server's answer breaks the protocol",
            Self::DeviceRefused => "the server refused this device",
            Self::EnrollmentRefused => "the server refused the enrollment",
            Self::EnrollmentPending => "the enrollment waits for approval",
            Self::ServerFailed => "the server failed",
            Self::ArtifactMissing => "the artifact is not on the server",
            Self::CertificateMismatch => "the certificate issued is not for this device's key",
            Self::CertificateUntrusted => {
                "the certificate issued is of no CA that this device trusts, or has ended"
            }
            Self::FlashRead => "reading flash failed",
            Self::FlashWrite => "writing flash failed",
            Self::PartitionTable => "the partition table is not valid",
            Self::Vault => "the vault could not be read or written",
            Self::NotProvisioned => "the vault lacks what is needed to reach a server",
            Self::NetworkPhaseDeaths => "the updater died three times in a row in the network phase",
            Self::BudgetSpent => "the time budget was used up",
            Self::Crypto => "a key could not be made or used",
            Self::Internal => "the updater met a state that must not occur",
            Self::NothingToRun => "no application is installed and the server offers none",
            Self::ApplicationConfirmedItself => {
                "the application confirmed itself and kept the updater from running"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
