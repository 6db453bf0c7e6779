//! Reason codes: why something was done, refused or failed.

use core::fmt;

/// Makes the enum and everything that is said of each reason from one table: documentation, name in the code, code,
/// kebab-case name, one sentence for a person.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $text:literal;)+) => {
        /// Why an install, a refusal or a failure happened.
        ///
        /// Codes leave the device and are stored by servers: append-only, never renumbered. The hundreds say who is to
        /// blame: 1xx the manifest, 2xx the image, 3xx the server or the network, 4xx the device's hardware (flash,
        /// identity, random numbers), 5xx the updater or its provisioning, 6xx the application. `docs/protocol.md` holds
        /// the table; a test keeps it in step with this enum.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl Reason {
            /// Every reason, in ascending order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The kebab-case name used in JSON and in the docs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for a person.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The release was installed.
    Installed = 1, "installed", "the release was installed";

    /// The manifest is not a COSE_Sign1 with a manifest in it.
    ManifestMalformed = 100, "manifest-malformed", "the manifest is not a signed manifest";
    /// No publisher key of the vault verifies the signature.
    ManifestSignature = 101, "manifest-signature", "no publisher key of this device verifies the signature";
    /// The sequence number is older than the installed one and no signed revert allows it.
    SequenceOlder = 102, "sequence-older", "the sequence number is older than the installed one";
    /// The sequence number is the installed one, the image is another.
    SequenceReused = 103, "sequence-reused", "the sequence number is the installed one, the image is another";
    /// The manifest is for another product.
    ProductMismatch = 104, "product-mismatch", "the manifest is for another product";
    /// The manifest is for another chip.
    ChipMismatch = 105, "chip-mismatch", "the manifest is for another chip";
    /// The image does not fit the slot.
    ImageTooLarge = 106, "image-too-large", "the image does not fit the slot";
    /// The manifest has expired.
    ManifestExpired = 107, "manifest-expired", "the manifest has expired";
    /// The manifest asks for something that this updater does not know.
    ManifestUnsupported = 108, "manifest-unsupported",
        "the manifest asks for something that this updater does not know";

    /// A chunk has another digest than the manifest says.
    ChunkDigest = 200, "chunk-digest", "a chunk has another digest than the manifest says";
    /// The whole image has another digest than the manifest says.
    ImageDigest = 201, "image-digest", "the image has another digest than the manifest says";
    /// The bytes are right and yet no bootable image for this chip.
    ImageInvalid = 202, "image-invalid", "the image is not bootable on this chip";
    /// The image is whole and for this chip, and yet the hand-over cannot start it (memory, load addresses).
    NotStartable = 203, "not-startable",
        "the image is whole and for this chip, and the hand-over cannot start it";

    /// No network could be joined.
    NetworkUnreachable = 300, "network-unreachable", "no network could be joined";
    /// The server's name could not be resolved.
    NameResolution = 301, "name-resolution", "the server's name could not be resolved";
    /// No TCP connection to the server.
    ServerUnreachable = 302, "server-unreachable", "no connection to the server";
    /// The server's certificate or handshake was refused.
    TlsRefused = 303, "tls-refused", "the server's certificate or handshake was refused";
    /// The connection ended or broke in the middle.
    ConnectionLost = 304, "connection-lost", "the connection broke";
    /// The server was too slow.
    Timeout = 305, "timeout", "the server was too slow";
    /// The answer is not HTTP, not CBOR, or breaks a length or range.
    ServerProtocol = 306, "server-protocol", "the server's answer breaks the protocol";
    /// The server refused this device (revoked, or not known).
    DeviceRefused = 307, "device-refused", "the server refused this device";
    /// The server refused the enrollment (wrong or used token).
    EnrollmentRefused = 308, "enrollment-refused", "the server refused the enrollment";
    /// The server has taken the enrollment and asks for patience (EST 202).
    EnrollmentPending = 309, "enrollment-pending", "the enrollment waits for approval";
    /// The server failed (5xx).
    ServerFailed = 310, "server-failed", "the server failed";
    /// The artifact is not on the server.
    ArtifactMissing = 311, "artifact-missing", "the artifact is not on the server";
    /// The certificate issued is not for this device's key.
    CertificateMismatch = 312, "certificate-mismatch", "the certificate issued is not for this device's key";
    /// The certificate issued is not one that the device's trust anchors vouch for, or it has ended.
    CertificateUntrusted = 313, "certificate-untrusted",
        "the certificate issued is of no CA that this device trusts, or has ended";
    /// The only access points of a known name ask for WPA3, which this updater's radio lacks.
    WifiWpa3Only = 314, "wifi-wpa3-only",
        "the access points of a known network ask for WPA3, which this updater's radio lacks";
    /// The server's TLS ended the handshake with an alert of a fault of its own (RFC 8446 section 6.2).
    ServerAlert = 315, "server-alert", "the server ended the handshake for a fault of its own";

    /// Reading flash failed.
    FlashRead = 400, "flash-read", "reading flash failed";
    /// Erasing or writing flash failed, or what was written does not read back.
    FlashWrite = 401, "flash-write", "writing flash failed";
    /// The partition table is not valid, or a partition is missing.
    PartitionTable = 402, "partition-table", "the partition table is not valid";
    /// The vault could not be opened or written.
    Vault = 403, "vault", "the vault could not be read or written";
    /// The device's key or certificate is there and reads as damaged.
    IdentityDamaged = 404, "identity-damaged", "the key or the certificate of this device reads as damaged";
    /// The random number generator gave no numbers.
    Randomness = 405, "randomness", "no random numbers could be had";

    /// The vault lacks what is needed to reach a server.
    NotProvisioned = 500, "not-provisioned", "the vault lacks what is needed to reach a server";
    /// The updater died three times in a row in the network phase. Of older updaters; others say `updater-crashes`.
    NetworkPhaseCrashes = 501, "network-phase-crashes",
        "the updater crashed three times in a row in the network phase";
    /// The time budget was used up.
    BudgetSpent = 502, "budget-spent", "the time budget was used up";
    /// A key could not be made or used.
    Crypto = 503, "crypto", "a key could not be made or used";
    /// The updater met a state that must not occur.
    Internal = 504, "internal", "the updater met a state that must not occur";
    /// No application is installed, and the server offers none.
    NothingToRun = 505, "nothing-to-run", "no application is installed and the server offers none";
    /// The updater crashed three times in a row, wherever it was.
    UpdaterCrashes = 506, "updater-crashes", "the updater crashed three times in a row";
    /// The last hand-over to the application did not come to its end, and nothing else could be started.
    HandOverFailed = 507, "hand-over-failed", "the last hand-over to the application did not come to its end";

    /// With the hand-over by otadata: the application marked itself valid, and the bootloader started it ever since
    /// without the updater.
    ApplicationConfirmedItself = 600, "application-confirmed-itself",
        "the application confirmed itself and kept the updater from running";
}

impl Reason {
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
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
