//! The token that says to a cluster who calls: where it comes from, and how it is sent. Never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::CliError;
use crate::exit::ExitCode;

/// The token of a user.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Token {
    /// There is none.
    #[default]
    None,
    /// It stands in the environment.
    Given(String),
    /// It stands in a file, which is read at each call: it may be changed while a run is followed.
    File(PathBuf),
}

impl Token {
    /// Whether there is one.
    #[must_use]
    pub(crate) const fn is_there(&self) -> bool {
        match self {
            Self::None => false,
            Self::Given(_) | Self::File(_) => true,
        }
    }

    /// Looks whether it can be sent, before anything is asked.
    ///
    /// # Errors
    /// Code 2 for a file that cannot be read, or that holds no token.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let Err(why) = self.header() else {
            return Ok(());
        };
        let error = CliError::new(ExitCode::Usage, "the token cannot be sent").why(why);
        Err(match self {
            Self::File(path) => error.at(path.display().to_string()),
            Self::None | Self::Given(_) => error.at("HIGHWATER_TOKEN"),
        }
        .next("--token-file FILE, which holds the token and nothing else"))
    }

    /// What is sent. No error repeats anything of it.
    fn header(&self) -> Result<Option<MetadataValue<Ascii>>, String> {
        let token = match self {
            Self::None => return Ok(None),
            Self::Given(token) => token.clone(),
            Self::File(path) => read(path)?,
        };
        let token = token.trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token {
            return Err("a token is one word of letters, digits and signs".to_owned());
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| "no header can hold it".to_owned())?;
        // Whoever prints a request does not print this.
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = self.header();
        let header = header
            .map_err(|why| Status::unauthenticated(format!("the token cannot be sent: {why}")))?;
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: &Token) -> Result<Option<String>, Status> {
        let request = token.clone().call(Request::new(()))?;
        let header = request.metadata().get("authorization");
        Ok(header.map(|header| header.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_token_is_read_anew_at_each_call_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::File(path.clone());
        assert!(token.check().is_ok());
        assert_eq!(sent(&token).unwrap().as_deref(), Some("Bearer one"));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(sent(&token).unwrap().as_deref(), Some("Bearer two"));
        for wrong in ["", "\n", "two words hunter2", "hünter2"] {
            std::fs::write(&path, wrong).unwrap();
            let error = sent(&token).unwrap_err();
            assert!(!format!("{error:?}").contains("nter2"), "{error:?}");
            assert_eq!(token.check().unwrap_err().exit(), ExitCode::Usage);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(sent(&token).is_err());
        let given = Token::Given("hunter2".to_owned());
        assert_eq!(sent(&given).unwrap().as_deref(), Some("Bearer hunter2"));
        let request = given.clone().call(Request::new(())).unwrap();
        let shown = format!("{given:?} {request:?} {:?}", request.metadata());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(sent(&Token::default()).unwrap(), None);
    }
}
