//! The state of a function's process: the configuration and the clients. It lasts as long as the process.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::artwork;
use crate::caller::Identity;
use crate::config::Config;
use crate::database::Database;
use crate::egress::Egress;
use crate::email::Mailer;
use crate::mark::Mark;
use crate::replicate::Replicate;
use crate::storage::Storage;

/// Built once, before the first request.
pub struct App {
    /// The configuration, read from the environment.
    pub config: Config,
    /// The client of the Data API.
    pub database: Database,
    /// The client of Supabase Storage.
    pub(crate) storage: Storage,
    /// The client of Replicate.
    pub replicate: Replicate,
    /// The HTTP client for outputs and time stamps. Requests to other services go through their own modules.
    pub egress: Egress,
    /// Sends email. `None` if no mail server is configured.
    pub mailer: Option<Mailer>,
    /// Marks artworks before they are stored. `None` in functions that store none.
    pub marker: Option<Arc<dyn Mark>>,
    pub(crate) identity: Identity,
    pub(crate) room_for_outputs: Semaphore,
}

impl App {
    /// Builds the clients. This opens no connection.
    ///
    /// # Errors
    /// Returns an error if the TLS client cannot be built.
    pub fn new(config: Config) -> Result<Self, reqwest::Error> {
        let egress = Egress::new(&config)?;
        Ok(Self {
            database: Database::new(&config, egress.clone()),
            storage: Storage::new(&config, egress.clone()),
            replicate: Replicate::new(&config, egress.clone()),
            identity: Identity::new(&config),
            mailer: config.mail.as_ref().and_then(Mailer::new),
            marker: None,
            room_for_outputs: artwork::room(),
            egress,
            config,
        })
    }

    /// Adds the marker that a function needs to store artworks.
    #[must_use]
    pub fn with_marker(self, marker: Arc<dyn Mark>) -> Self {
        Self { marker: Some(marker), ..self }
    }

    /// Reads the configuration from the environment and builds the clients.
    ///
    /// # Errors
    /// Names every variable that is missing or unusable.
    pub fn from_env() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(Config::from_env()?)?)
    }
}
