//! The newest predictions of the account. They show whether a create call with a lost response created a
//! prediction.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::prediction::if_readable;
use super::{Prediction, Replicate, SERVICE, read, unreadable};
use crate::Error;
use crate::cause::Cause;
use crate::egress::send_idempotent;

/// The largest page of the list that is read, in bytes. A page has a hundred predictions with their inputs.
const LIST_LIMIT: usize = 16 * 1024 * 1024;
/// How many pages are searched for a prediction, newest first.
const PAGES: u32 = 50;

/// The newest predictions of the account.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sorted by creation time, newest first.
    predictions: Vec<Prediction>,
    /// Entries that cannot be read, as JSON.
    unreadable: Vec<String>,
    /// Whether the list reaches as far back as requested.
    is_whole: bool,
}

impl Listing {
    /// Returns the newest prediction that was made from the photo at `photo` and was not canceled or lost to
    /// a platform failure. `None` means that there certainly is no such prediction.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the list does not settle the question.
    pub(crate) fn find(&self, photo: &str) -> Result<Option<&Prediction>, Error> {
        let found = self.all_of(photo)?.into_iter().find(|one| !one.is_vain());
        if found.is_none() {
            self.is_certain()?;
        }
        Ok(found)
    }

    /// Returns all predictions that were made from the photo at `photo`, newest first, in any status.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the list does not settle the question.
    pub(crate) fn find_all(&self, photo: &str) -> Result<Vec<&Prediction>, Error> {
        let found = self.all_of(photo)?;
        // Predictions that were found count, even if the list is incomplete. Only "there are none" needs a
        // complete list.
        if found.is_empty() {
            self.is_certain()?;
        }
        Ok(found)
    }

    /// Returns the predictions of one photo. An unreadable entry that mentions the photo is an error, because
    /// it may be one of them. Other unreadable entries are ignored.
    fn all_of(&self, photo: &str) -> Result<Vec<&Prediction>, Error> {
        if self.unreadable.iter().any(|text| text.contains(photo)) {
            return Err(unreadable());
        }
        Ok(self.predictions.iter().filter(|one| one.is_of(photo)).collect())
    }

    fn is_certain(&self) -> Result<(), Error> {
        if self.is_whole {
            Ok(())
        } else {
            Err(Error::unavailable(SERVICE, "too many predictions to search"))
        }
    }
}

impl Replicate {
    /// Lists the predictions that were created after `since`. `since` is a time of our clock.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not deliver the list.
    pub(crate) async fn list(&self, since: OffsetDateTime) -> Result<Listing, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default, deserialize_with = "if_readable")]
            next: Option<String>,
            results: Vec<Value>,
        }
        let mut listing = Listing::default();
        let mut cursor: Option<Vec<(String, String)>> = None;
        for _ in 0..PAGES {
            let request = self.request(Method::GET, ["predictions"].into_iter())?;
            let response = send_idempotent(SERVICE, request.query(&cursor)).await?;
            if !response.status().is_success() {
                let cause = Cause::status("list", response.status().as_u16());
                return Err(Error::unavailable(SERVICE, cause));
            }
            let page: Page = read(response, LIST_LIMIT).await?;
            let reaches_back = page.results.last().is_none_or(|oldest| {
                Prediction::deserialize(oldest).is_ok_and(|oldest| oldest.is_before(since))
            });
            for listed in page.results {
                match Prediction::deserialize(&listed) {
                    Ok(prediction) => listing.predictions.push(prediction),
                    Err(_) => listing.unreadable.push(listed.to_string()),
                }
            }
            let Some(next) = page.next.filter(|_| !reaches_back) else {
                listing.is_whole = true;
                break;
            };
            // Only the query is taken from the URL in the response. So the token is never sent to another
            // host.
            cursor = Url::parse(&next).ok().map(|next| next.query_pairs().into_owned().collect());
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prediction(body: Value) -> Prediction {
        serde_json::from_value(body).expect("a prediction")
    }

    #[test]
    fn an_unreadable_entry_affects_only_its_own_photo() {
        let of = |photo: &str| json!({"input_image": format!("https://x/object/sign/inputs/{photo}?token=t")});
        let listing = Listing {
            predictions: vec![prediction(
                json!({"id": "ada", "status": "starting", "input": of("ada/1.jpg")}),
            )],
            unreadable: vec![json!({"id": 7, "input": of("bob/1.jpg")}).to_string()],
            is_whole: true,
        };
        let found = listing.find("ada/1.jpg").expect("a list").map(|one| one.id.as_str());
        assert_eq!(found, Some("ada"));
        assert!(listing.find("bob/1.jpg").is_err() && listing.find_all("bob/1.jpg").is_err());
        assert!(listing.find("eve/1.jpg").expect("a list").is_none());
        let part = Listing { is_whole: false, ..listing };
        assert!(part.find("eve/1.jpg").is_err() && part.find_all("eve/1.jpg").is_err());
        assert_eq!(part.find_all("ada/1.jpg").expect("a list").len(), 1);
    }
}
