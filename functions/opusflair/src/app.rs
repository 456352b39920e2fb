//! What a function holds for as long as its process lives: the configuration and the clients.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::artwork;
use crate::caller::Identity;
use crate::config::Config;
use crate::database::Database;
use crate::egress::Egress;
use crate::letter::Mailer;
use crate::mark::Mark;
use crate::replicate::Replicate;
use crate::storage::Storage;

/// Built once, before the first event.
pub struct App {
    /// As read from the environment.
    pub config: Config,
    /// The Data API.
    pub database: Database,
    /// The objects.
    pub storage: Storage,
    /// The models.
    pub replicate: Replicate,
    /// For outputs and time stamps; everything else has its own module.
    pub egress: Egress,
    /// The mail; none where none is configured.
    pub mailer: Option<Mailer>,
    /// What marks artworks before they are stored; none in functions that store none.
    pub marker: Option<Arc<dyn Mark>>,
    pub(crate) identity: Identity,
    pub(crate) room_for_outputs: Semaphore,
}

impl App {
    /// Builds the clients; nothing is connected to yet.
    ///
    /// # Errors
    /// Where no TLS client can be made.
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

    /// The same, able to store artworks.
    #[must_use]
    pub fn with_marker(self, marker: Arc<dyn Mark>) -> Self {
        Self { marker: Some(marker), ..self }
    }

    /// The configuration from the environment, and the clients.
    ///
    /// # Errors
    /// Names every variable that is missing or unusable.
    pub fn from_env() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(Config::from_env()?)?)
    }
}
