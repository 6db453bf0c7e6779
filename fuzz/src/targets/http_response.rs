//! Any bytes as what a server sends to the device's HTTP client, in any pieces. The first byte says which.

use crate::stream::Script;
use updater_io::http::{HttpClient, HttpError, MAX_DRAIN_BYTES, Method, Request, ResponseHead};

const LIMIT_BYTES: usize = 1000;
const REQUEST: Request<'_> =
    Request { method: Method::Get, path: "/v1/thing", host: "server:8443", headers: &[], body: &[] };

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (piece_bytes, bytes) = crate::choice(data);
    let whole = responses(bytes, Script::whole(bytes));
    let in_pieces = responses(bytes, Script::new(crate::pieces(bytes, piece_bytes).map(<[u8]>::to_vec)));
    // How the bytes arrive makes no difference to the first response.
    assert_eq!(whole.first(), in_pieces.first());
}

/// What the client makes of all responses; of an error its text.
fn responses(bytes: &[u8], script: Script) -> Vec<Result<(ResponseHead, Vec<u8>), String>> {
    let mut client = HttpClient::new(script);
    let mut responses = Vec::new();
    for requests in 1..=3 {
        let response = crate::block_on(response(&mut client));
        assert!(client.bytes_received() <= bytes.len() as u64);
        let failed = response.is_err();
        if let Ok((head, body)) = &response {
            assert_eq!(client.requests(), requests);
            assert!(!(100..200).contains(&head.status), "{head:?}");
            assert!(head.content_length > LIMIT_BYTES as u64 || body.len() as u64 == head.content_length);
            if let Some(range) = head.content_range {
                assert!(
                    range.first <= range.last && range.total_bytes.is_none_or(|total| range.last < total)
                );
            }
        }
        responses.push(response.map_err(|error| error.to_string()));
        if failed {
            assert!(!client.is_reusable() || matches!(responses.last(), Some(Err(_))));
            break;
        }
    }
    responses
}

type Received = Result<(ResponseHead, Vec<u8>), HttpError<embedded_io_async::ErrorKind>>;

async fn response(client: &mut HttpClient<Script>) -> Received {
    let head = client.send(&REQUEST).await?;
    let body = match client.read_body_to_vec(LIMIT_BYTES).await {
        Err(HttpError::BodyTooLarge { body_bytes, .. }) => {
            assert!(body_bytes > LIMIT_BYTES as u64);
            assert_eq!(client.is_reusable(), body_bytes <= MAX_DRAIN_BYTES && !head.connection_close);
            Vec::new()
        }
        body => body?,
    };
    Ok((head, body))
}
