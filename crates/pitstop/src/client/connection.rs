//! Which server a command talks to, and with which token.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use ureq::http::Uri;

use super::Client;
use crate::failure::Failure;
use crate::ui::hints;

/// The file of the admin token in the server's data directory.
const TOKEN_FILE: &str = "admin.token";

/// Where a server listens, and keeps its data, that was told nothing else.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const DEFAULT_DATA: &str = "pitstop-data";

/// Options of every command that talks to a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The server's admin listener
    #[arg(long, env = "PITSTOP_URL", hide_env_values = true, value_name = "URL", value_parser = url, default_value = DEFAULT_URL)]
    url: String,

    /// An API token; without it, the file admin.token of --data is read
    #[arg(long, env = "PITSTOP_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// The server's data directory on this machine
    #[arg(
        long,
        env = "PITSTOP_DATA",
        hide_env_values = true,
        value_name = "DIR",
        default_value = DEFAULT_DATA
    )]
    data: PathBuf,
}

impl Connection {
    /// A client for that server.
    ///
    /// # Errors
    /// When there is no token.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = match &self.token {
            Some(token) => token.trim().to_owned(),
            None => read_token(&self.data.join(TOKEN_FILE))?,
        };
        hints::talks_to(self.given());
        Ok(Client::new(&self.url, &token))
    }

    /// The options that were given on the command line and name the server; the next command is given them too.
    fn given(&self) -> String {
        let is_env = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
        let mut given = String::new();
        if self.url != DEFAULT_URL && !is_env("PITSTOP_URL", &self.url) {
            given += &format!(" --url {}", self.url);
        }
        let data = self.data.display().to_string();
        if self.token.is_none() && data != DEFAULT_DATA && !is_env("PITSTOP_DATA", &data) {
            given += &format!(" --data {data}");
        }
        given
    }
}

/// An address of an admin listener, which speaks plain HTTP on loopback.
fn url(text: &str) -> Result<String, String> {
    let is_http =
        |uri: &Uri| uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.query().is_none();
    match text.parse::<Uri>() {
        Ok(uri) if is_http(&uri) => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            Err("expected an address such as http://127.0.0.1:8080; the admin listener speaks plain \
             HTTP on the server's loopback, so from elsewhere tunnel to it: ssh -L 8080:127.0.0.1:8080 HOST"
                .to_owned())
        }
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("no admin token: {} is not there", path.display())).hint(
                "start a server here with `pitstop serve`; for one that runs elsewhere, give --data DIR, or \
                 --token and --url",
            ))
        }
        Err(error) => {
            Err(Failure::new(format!("the admin token {} cannot be read: {error}", path.display()))
                .hint("run as the user of the server, or give the token with --token or PITSTOP_TOKEN"))
        }
    }
}
