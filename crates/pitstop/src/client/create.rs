//! Requests that make something: sent again when the answer is lost, and done once (`Idempotency-Key`).

use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError};

/// Random bytes of a key: no two requests have the same.
const KEY_BYTES: usize = 16;

/// Pauses before a request is sent again.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

impl Client {
    /// Posts what makes something, again when nobody knows whether it was made: with the same key, by which the server makes it
    /// once.
    pub(super) fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let key = hex::encode(rand::random::<[u8; KEY_BYTES]>());
        let mut pauses = PAUSES.iter();
        loop {
            let request = self.signed(self.agent.post(self.address(path))).header("idempotency-key", &key);
            let answer = self.accepted(request.send_json(body)).and_then(|answer| self.read(answer));
            match (answer, pauses.next()) {
                (Err(error), Some(pause)) if error.may_go_well_later() => sleep(*pause),
                (answer, _) => return answer,
            }
        }
    }
}
