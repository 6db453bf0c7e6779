//! What the shell does on the network: one TLS connection, kept for the whole pit stop.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;

use embassy_futures::select::{Either, select};
use flashfmt::image::{Glance, ImageError, Missing, SEGMENT_HEADER_BYTES};
use manifest::Digest;
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use sha2::Digest as _;
use updater::{Anchors, Chain, Event, Failure, FetchChunk, FirstSector, Key, Preview, Token, limits};
use wire::{CheckIn, Decision, Message, Reason, Report};

use super::account::{Account, Client, Online, life};
use super::fault::ProtocolFault;
use super::flash::check_headers;
use super::{Shell, digest};
use crate::board::{Board, Observed};
use crate::est::{self, EnrolledChain, EstError};
use crate::flash::FlashFault;
use crate::http::{HttpClient, HttpError, Method, Request, ResponseHead};
use crate::pki::{self, DeviceKey, PkiError};
use crate::platform::{JoinRequest, Network, NetworkError, Timer};
use crate::region::{Region, SECTOR_BYTES};
use crate::tls::{TlsError, TlsSession, client_config, try_anchors, try_identity};
use crate::vault::{Settings, concatenate};

/// What is asked in one exchange.
pub(super) enum Ask {
    /// The first certificate.
    Enroll { key: Key, token: Token },
    /// The next certificate.
    Renew { key: Key },
    /// The server's trust anchors.
    Anchors,
    /// What to do.
    CheckIn(CheckIn),
    /// Nothing: it is told.
    Report(Report),
}

impl Ask {
    /// Whether the device shows its certificate: before the first one it has none.
    fn is_identified(&self) -> bool {
        match self {
            Self::Enroll { .. } => false,
            Self::Renew { .. } | Self::Anchors | Self::CheckIn(_) | Self::Report(_) => true,
        }
    }
}

/// What the server answers; certificates are still to be tried.
enum Answer {
    Event(Event),
    Chain(Key, EnrolledChain),
    Anchors { anchors: Vec<CertificateDer<'static>>, server: Option<CertificateDer<'static>> },
}

/// A part of an artifact, for one range request.
struct Part {
    artifact: Digest,
    offset_bytes: u32,
    length_bytes: u32,
}

impl<B: Board> Shell<'_, B> {
    pub(super) async fn join(&mut self, account: &Account<B>, timeout_ms: u64) -> Result<Event, Reason> {
        let timer = self.board.timer();
        let turn = self.turn();
        let Settings { wifi: networks, country, .. } = &account.settings;
        let request = JoinRequest { networks, country: *country, last: account.access_point, turn };
        let joined = within(&timer, timeout_ms, self.board.network().join(request)).await;
        match joined {
            Ok(Ok(joined)) => {
                // Not remembering it costs the next start a scan, no more.
                let _ = joined.map(|access_point| self.save_access_point(account, access_point));
                Ok(Event::Joined { free_heap_bytes: self.board.free_heap_bytes() })
            }
            Ok(Err(error)) => Err(self.fault(network_reason(error), &error)),
            Err(fault) => Err(self.fault(Reason::NetworkUnreachable, &fault)),
        }
    }

    /// Which network's turn it is: they take turns start by start. A device that is only ever switched off and on counts no
    /// starts, and draws.
    fn turn(&mut self) -> u16 {
        if self.starts > 1 { self.starts } else { self.jitter() as u16 }
    }

    /// One exchange on the connection, within its time. A connection on which it failed is given up.
    pub(super) async fn exchange(
        &mut self,
        account: &mut Account<B>,
        ask: Ask,
        timeout_ms: u64,
    ) -> Result<Event, Failure> {
        let timer = self.board.timer();
        if let (Ask::CheckIn(_), Some(online)) = (&ask, &mut account.online) {
            // On it the device asked for the certificate that it has now.
            online.identified = false;
        }
        let exchange = async {
            let mut online = self.online(account, ask.is_identified()).await?;
            let answer = match answer_to::<B>(&mut online.http, &account.settings, ask).await {
                Ok(answer) => answer,
                Err(fault) => return Err(self.online_failure(fault)),
            };
            account.online = Some(online);
            Ok(match answer {
                Answer::Event(event) => event,
                Answer::Chain(key, chain) => self.certificate_issued(&account.settings, key, chain)?,
                Answer::Anchors { anchors, server } => self.anchors_fetched(account, &anchors, server)?,
            })
        };
        match within(&timer, timeout_ms, exchange).await {
            Ok(result) => result,
            Err(fault) => Err(self.online_failure(fault)),
        }
    }

    fn certificate_issued(
        &mut self,
        settings: &Settings,
        key: Key,
        chain: EnrolledChain,
    ) -> Result<Event, Reason> {
        let leaf = chain.certificates.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let facts = self.pki(pki::leaf_facts(leaf))?;
        let life = life(&facts);
        // The device's clock may be behind the issuer's.
        let now_s = u64::from(self.clock.now_s()).max(facts.not_before_s);
        let provider = self.board.crypto_provider();
        let tried = try_identity(&provider, now_s, &settings.anchors, &chain.certificates);
        tried.map_err(|error| self.fault(tls_reason(&error), &error))?;
        Ok(Event::CertificateIssued { key, life, chain: Chain(concatenate(&chain.certificates)) })
    }

    /// Tries anchors on the server that they came from: a set that would lock the device out is refused.
    fn anchors_fetched(
        &mut self,
        account: &Account<B>,
        anchors: &[CertificateDer<'static>],
        server: Option<CertificateDer<'static>>,
    ) -> Result<Event, Failure> {
        let name = account.server_name().map_err(|fault| self.online_failure(fault))?;
        let provider = self.board.crypto_provider();
        let tried = server
            .ok_or(TlsError::Unexpected)
            .and_then(|server| try_anchors(&provider, &self.clock, anchors, &server, &name));
        tried.map_err(|error| self.fault(tls_reason(&error), &error))?;
        let digest = wire::anchors_digest(anchors.iter().map(AsRef::as_ref));
        Ok(Event::AnchorsFetched { digest, anchors: Anchors(concatenate(anchors)) })
    }

    /// Looks at an artifact as the hand-over would, and writes nothing: its first chunk, of which the digest goes to the
    /// engine, and the headers of the segments that lie behind the first sector, each by a range request of its own.
    pub(super) async fn preview(
        &mut self,
        account: &mut Account<B>,
        preview: &Preview,
    ) -> Result<Event, Failure> {
        let timer = self.board.timer();
        timer.sleep_ms(preview.delay_ms).await;
        let slot = self.slot(preview.slot)?;
        let looked_at = self.look_at(account, preview, slot.size_bytes);
        match within(&timer, preview.timeout_ms, looked_at).await {
            Ok(digest) => Ok(Event::Previewed(digest?)),
            Err(fault) => Err(self.online_failure(fault)),
        }
    }

    async fn look_at(
        &mut self,
        account: &mut Account<B>,
        preview: &Preview,
        slot_bytes: u32,
    ) -> Result<Digest, Failure> {
        let artifact = preview.artifact;
        let first = Part { artifact, offset_bytes: 0, length_bytes: preview.length_bytes };
        let mut online = self.ask_for(account, &first).await?;
        let mut hash = B::Sha256::new();
        let mut prefix = vec![0; SECTOR_BYTES.min(first.length_bytes) as usize];
        self.receive(&mut online, &mut prefix).await?;
        hash.update(&prefix);
        let mut sector = Vec::with_capacity(SECTOR_BYTES as usize);
        for start in (SECTOR_BYTES..first.length_bytes).step_by(SECTOR_BYTES as usize) {
            sector.resize((first.length_bytes - start).min(SECTOR_BYTES) as usize, 0);
            self.receive(&mut online, &mut sector).await?;
            hash.update(&sector);
        }
        account.online = Some(online);
        let found = digest(hash);
        if found != preview.digest {
            return Ok(found);
        }
        let mut glance = self.image_format(Glance::new(&prefix, slot_bytes))?;
        let outline = loop {
            match glance.missing() {
                Missing::Nothing(outline) => break outline,
                Missing::Header { offset: offset_bytes } => {
                    let mut record = [0; SEGMENT_HEADER_BYTES];
                    let part = Part { artifact, offset_bytes, length_bytes: SEGMENT_HEADER_BYTES as u32 };
                    let mut online = self.ask_for(account, &part).await?;
                    self.receive(&mut online, &mut record).await?;
                    account.online = Some(online);
                    self.image_format(glance.push(&record))?;
                }
            }
        };
        let checked = check_headers(self.board, self.map.strategy, &outline.header, &outline.segments);
        self.flash_reason(checked)?;
        Ok(found)
    }

    fn image_format<T>(&mut self, result: Result<T, ImageError>) -> Result<T, Reason> {
        self.flash_reason(result.map_err(FlashFault::Image))
    }

    /// Downloads one chunk into flash and hashes what is in flash then.
    pub(super) async fn fetch_chunk(
        &mut self,
        account: &mut Account<B>,
        fetch: &FetchChunk,
    ) -> Result<Event, Failure> {
        let timer = self.board.timer();
        timer.sleep_ms(fetch.delay_ms).await;
        let slot = self.slot(fetch.slot)?;
        let region = self.part(slot, fetch.offset_bytes, fetch.length_bytes)?;
        match within(&timer, fetch.timeout_ms, self.download(account, fetch, region)).await {
            Ok(event) => event,
            Err(fault) => Err(self.online_failure(fault)),
        }
    }

    async fn download(
        &mut self,
        account: &mut Account<B>,
        fetch: &FetchChunk,
        region: Region,
    ) -> Result<Event, Failure> {
        let FetchChunk { artifact, offset_bytes, length_bytes, .. } = *fetch;
        let mut online = self.ask_for(account, &Part { artifact, offset_bytes, length_bytes }).await?;
        let held_bytes = if fetch.hold_first_sector { SECTOR_BYTES.min(length_bytes) } else { 0 };
        let mut held = vec![0; held_bytes as usize];
        self.receive(&mut online, &mut held).await?;
        // Nothing is erased before the bytes that will be written there are coming.
        let written = Region { offset: region.offset + held_bytes, size_bytes: length_bytes - held_bytes };
        self.erase_part(written)?;
        let mut sector = Vec::with_capacity(SECTOR_BYTES as usize);
        for start in (0..written.size_bytes).step_by(SECTOR_BYTES as usize) {
            sector.resize((written.size_bytes - start).min(SECTOR_BYTES) as usize, 0);
            self.receive(&mut online, &mut sector).await?;
            self.write_erased(written.offset + start, &mut sector)?;
        }
        account.online = Some(online);
        let digest = self.hash_with(region, &held)?;
        if !fetch.hold_first_sector {
            return Ok(Event::ChunkHashed(digest));
        }
        let mut first_sector = FirstSector(Box::new([0xff; SECTOR_BYTES as usize]));
        first_sector.0.iter_mut().zip(held).for_each(|(to, from)| *to = from);
        Ok(Event::FirstChunkHashed { digest, first_sector })
    }

    /// Fills a buffer from the body of an answer; each read has its limit.
    async fn receive(&mut self, online: &mut Online<B>, buffer: &mut [u8]) -> Result<(), Failure> {
        let timer = self.board.timer();
        let mut filled_bytes = 0;
        while filled_bytes < buffer.len() {
            let read = online.http.read_body(&mut buffer[filled_bytes..]);
            match within(&timer, limits::SILENCE_MS, read).await {
                Ok(Ok(0)) => {
                    let missing_bytes = Some((buffer.len() - filled_bytes) as u64);
                    return Err(self.online_failure(HttpError::ConnectionLost { missing_bytes }));
                }
                Ok(Ok(bytes)) => filled_bytes += bytes,
                Ok(Err(error)) => return Err(self.online_failure(error)),
                Err(fault) => return Err(self.online_failure(fault)),
            }
        }
        self.board.observe(Observed::Received { bytes: filled_bytes as u32 });
        Ok(())
    }

    /// Asks for a part of an artifact, and gives back the connection on which just that part comes.
    async fn ask_for(&mut self, account: &mut Account<B>, part: &Part) -> Result<Online<B>, Failure> {
        let timer = self.board.timer();
        let asked = async {
            let mut online = self.online(account, true).await?;
            self.request(&mut online.http, &account.settings.server.authority(), part).await?;
            Ok::<_, Failure>(online)
        };
        match within(&timer, limits::EXCHANGE_MS, asked).await {
            Ok(asked) => asked,
            Err(fault) => Err(self.online_failure(fault)),
        }
    }

    /// Asks for a part of an artifact and makes sure that just these bytes come (RFC 9110 section 14).
    async fn request(&mut self, http: &mut Client<B>, host: &str, part: &Part) -> Result<(), Failure> {
        let first = u64::from(part.offset_bytes);
        let expected_bytes = u64::from(part.length_bytes);
        let last = first + expected_bytes - 1;
        let path = format!("{}{}", wire::ARTIFACTS_PATH, part.artifact);
        let range = format!("bytes={first}-{last}");
        let headers = [("Range", range.as_str())];
        let request = Request { method: Method::Get, path: &path, host, headers: &headers, body: &[] };
        let head = match http.send(&request).await {
            Ok(head) => head,
            Err(error) => return Err(self.online_failure(error)),
        };
        let checked = check_part(&head, first, last);
        checked.map_err(|fault| self.online_failure(fault))
    }

    /// The open connection, or a new one. Taken out for the exchange; whoever is done with it puts it back.
    async fn online(&mut self, account: &mut Account<B>, identified: bool) -> Result<Online<B>, Failure> {
        if let Some(online) = account.online.take() {
            if online.identified == identified && online.http.is_reusable() {
                return Ok(online);
            }
            let _ = online.http.into_stream().close().await;
        }
        // Certificates are judged against the uptime of this moment.
        self.now_ms();
        let identity = account.identity.clone().filter(|_| identified);
        let name = account.server_name().map_err(|fault| self.online_failure(fault))?;
        let provider = self.board.crypto_provider();
        let clock = Arc::new(self.clock.clone());
        let Settings { server, anchors, .. } = &account.settings;
        let config = match client_config(provider, clock, anchors, identity) {
            Ok(config) => Arc::new(config),
            Err(error) => return Err(self.fault(tls_reason(&error), &error).into()),
        };
        let connection = match self.board.network().connect(&server.host, server.port).await {
            Ok(connection) => connection,
            Err(error) => return Err(self.fault(network_reason(error), &error).into()),
        };
        match TlsSession::handshake(connection, config, name).await {
            Ok(session) => Ok(Online { http: HttpClient::new(session), identified }),
            Err(error) => Err(self.fault(tls_reason(&error), &error).into()),
        }
    }

    /// Says goodbye (close_notify) to the server; no harm when it does not hear it.
    pub(super) async fn disconnect(&mut self, account: Option<Account<B>>) {
        /// A server that does not take two dozen bytes in this time is not waited for.
        const GOODBYE_MS: u64 = 500;
        if let Some(online) = account.and_then(|account| account.online) {
            let timer = self.board.timer();
            let _ = within(&timer, GOODBYE_MS, online.http.into_stream().close()).await;
        }
    }

    fn online_failure(&mut self, fault: impl Into<Fault>) -> Failure {
        self.fault_online(fault.into())
    }

    /// Apart, and not inlined: else each kind of fault brings these tables into its place.
    #[inline(never)]
    fn fault_online(&mut self, fault: Fault) -> Failure {
        let retry_after_s = fault.retry_after_s();
        let reason = match fault {
            Fault::Http(error) => self.fault(http_reason(&error), &error),
            Fault::Est(error) => self.fault(est_reason(&error), &error),
            Fault::Cbor(error) => self.fault(Reason::ServerProtocol, &error),
            Fault::Key(error) => self.fault(Reason::Crypto, &error),
            Fault::Protocol(fault) => self.fault(protocol_reason(&fault), &fault),
        };
        Failure { reason, retry_after_s }
    }
}

/// What can go wrong in an exchange.
enum Fault {
    Http(HttpError),
    Est(EstError),
    Cbor(wire::DecodeError),
    Key(PkiError),
    Protocol(ProtocolFault),
}

impl Fault {
    /// When the server said to ask again.
    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Est(EstError::Pending { retry_after_s } | EstError::Status { retry_after_s, .. })
            | Self::Protocol(ProtocolFault::Status { retry_after_s, .. }) => *retry_after_s,
            Self::Http(_) | Self::Est(_) | Self::Cbor(_) | Self::Key(_) | Self::Protocol(_) => None,
        }
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<EstError> for Fault {
    fn from(error: EstError) -> Self {
        Self::Est(error)
    }
}

impl From<ProtocolFault> for Fault {
    fn from(fault: ProtocolFault) -> Self {
        Self::Protocol(fault)
    }
}

/// Asks, and reads the answer to its end.
async fn answer_to<B: Board>(http: &mut Client<B>, settings: &Settings, ask: Ask) -> Result<Answer, Fault> {
    let (host, device_id) = (settings.server.authority(), &settings.device_id);
    Ok(match ask {
        Ask::Enroll { key, token } => {
            let device_key = DeviceKey::from_pkcs8(&key.0).map_err(Fault::Key)?;
            Answer::Chain(key, est::simpleenroll(http, &host, &device_key, device_id, &token.0).await?)
        }
        Ask::Renew { key } => {
            let device_key = DeviceKey::from_pkcs8(&key.0).map_err(Fault::Key)?;
            Answer::Chain(key, est::simplereenroll(http, &host, &device_key, device_id).await?)
        }
        Ask::Anchors => {
            let anchors = est::cacerts(http, &host).await?;
            Answer::Anchors { anchors, server: http.stream().server_certificate().cloned() }
        }
        Ask::CheckIn(check_in) => {
            let what = Post { path: wire::CHECK_IN_PATH, what: "a check-in", expected: 200 };
            post::<B>(http, &host, what, &check_in.to_cbor()).await?;
            let body = http.read_body_to_vec(wire::MAX_DECISION_BYTES).await?;
            let decision = Decision::from_cbor(&body).map_err(Fault::Cbor)?;
            let certificate = http.stream().server_certificate();
            let facts = certificate.and_then(|certificate| pki::leaf_facts(certificate).ok());
            let server_not_after_s = facts.map(|facts| facts.not_after_s);
            Answer::Event(Event::Decided { decision, server_not_after_s })
        }
        Ask::Report(report) => {
            let what = Post { path: wire::REPORTS_PATH, what: "a report", expected: 204 };
            post::<B>(http, &host, what, &report.to_cbor()).await?;
            Answer::Event(Event::Reported)
        }
    })
}

/// Where a message goes, for who reads of its failure what it is, and the status of a good answer.
struct Post {
    path: &'static str,
    what: &'static str,
    expected: u16,
}

async fn post<B: Board>(http: &mut Client<B>, host: &str, post: Post, body: &[u8]) -> Result<(), Fault> {
    let Post { path, what, expected } = post;
    let headers = [("Content-Type", wire::MEDIA_TYPE)];
    let head = http.send(&Request { method: Method::Post, path, host, headers: &headers, body }).await?;
    if head.status != expected {
        let (found, retry_after_s) = (head.status, head.retry_after_s);
        return Err(ProtocolFault::Status { what, expected, found, retry_after_s }.into());
    }
    Ok(())
}

async fn within<T: Timer, O>(
    timer: &T,
    timeout_ms: u64,
    action: impl Future<Output = O>,
) -> Result<O, ProtocolFault> {
    match select(action, timer.sleep_ms(timeout_ms)).await {
        Either::First(output) => Ok(output),
        Either::Second(()) => Err(ProtocolFault::Timeout { timeout_ms }),
    }
}

/// Only the bytes asked for, all of them, and nothing else: a whole artifact (200) in place of a part would go into
/// the wrong place of the slot.
fn check_part(head: &ResponseHead, first: u64, last: u64) -> Result<(), ProtocolFault> {
    if head.status == 404 {
        return Err(ProtocolFault::NoArtifact);
    }
    if head.status != 206 {
        let (found, retry_after_s) = (head.status, head.retry_after_s);
        return Err(ProtocolFault::Status { what: "a range request", expected: 206, found, retry_after_s });
    }
    let found = head.content_range;
    if found.is_none_or(|range| (range.first, range.last) != (first, last)) {
        return Err(ProtocolFault::Range { first, last, found });
    }
    let expected_bytes = last - first + 1;
    if head.content_length != expected_bytes {
        return Err(ProtocolFault::Length { expected_bytes, found_bytes: head.content_length });
    }
    Ok(())
}

fn network_reason(error: NetworkError) -> Reason {
    match error {
        NetworkError::Join => Reason::NetworkUnreachable,
        NetworkError::Wpa3Only => Reason::WifiWpa3Only,
        NetworkError::Resolve => Reason::NameResolution,
        NetworkError::Connect => Reason::ServerUnreachable,
    }
}

fn tls_reason(error: &TlsError) -> Reason {
    match error {
        TlsError::ConnectionLost { .. } | TlsError::Truncated => Reason::ConnectionLost,
        TlsError::ServerRefused(_) | TlsError::Protocol(_) | TlsError::RecordTooLong => Reason::TlsRefused,
        TlsError::RefusedByServer { alert } => alert_reason(*alert),
        TlsError::UntrustedIdentity => Reason::CertificateUntrusted,
        TlsError::NoAnchors | TlsError::BadAnchor { .. } => Reason::NotProvisioned,
        TlsError::NoRandomness => Reason::Randomness,
        TlsError::OutOfMemory { .. }
        | TlsError::BadIdentity(_)
        | TlsError::Device(_)
        | TlsError::Unexpected => Reason::Crypto,
    }
}

/// What an alert says of whom it is about (RFC 8446 section 6.2): the device's certificate, the handshake, or the server
/// itself.
fn alert_reason(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => Reason::DeviceRefused,
        AlertDescription::InternalError | AlertDescription::UserCanceled | AlertDescription::CloseNotify => {
            Reason::ServerAlert
        }
        // Open-ended, and all others are about what was negotiated.
        _ => Reason::TlsRefused,
    }
}

fn http_reason(error: &HttpError) -> Reason {
    match error {
        HttpError::Stream(error) => tls_reason(error),
        HttpError::ConnectionLost { .. } => Reason::ConnectionLost,
        HttpError::BadHead(_)
        | HttpError::UnsupportedTransferEncoding
        | HttpError::BodyTooLarge { .. }
        | HttpError::BodyUnread { .. }
        | HttpError::ConnectionClosed => Reason::ServerProtocol,
        HttpError::OutOfMemory { .. } | HttpError::BadRequest => Reason::Internal,
    }
}

fn est_reason(error: &EstError) -> Reason {
    match error {
        EstError::Http(error) => http_reason(error),
        EstError::Pending { .. } => Reason::EnrollmentPending,
        EstError::Refused { .. } => Reason::EnrollmentRefused,
        EstError::Status { status, .. } => status_reason(*status),
        EstError::NotPkcs7 | EstError::Pki(_) | EstError::AnchorCount { .. } => Reason::ServerProtocol,
        EstError::CertificateMismatch => Reason::CertificateMismatch,
    }
}

fn protocol_reason(fault: &ProtocolFault) -> Reason {
    match fault {
        ProtocolFault::Status { found, .. } => status_reason(*found),
        ProtocolFault::NoArtifact => Reason::ArtifactMissing,
        ProtocolFault::Range { .. } | ProtocolFault::Length { .. } => Reason::ServerProtocol,
        ProtocolFault::Timeout { .. } => Reason::Timeout,
        ProtocolFault::ServerName { .. } => Reason::NotProvisioned,
    }
}

fn status_reason(status: u16) -> Reason {
    match status {
        401 | 403 => Reason::DeviceRefused,
        // A server that is busy or limits the rate is not broken, and yet did not serve.
        429 | 500..=599 => Reason::ServerFailed,
        _ => Reason::ServerProtocol,
    }
}
