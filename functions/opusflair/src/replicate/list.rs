//! The newest predictions of the account: how to learn what became of create calls whose answers were lost.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::{Prediction, Replicate, SERVICE, Status, Time, if_readable, read, unreadable};
use crate::Error;
use crate::cause::Cause;
use crate::egress::send_idempotent;

/// A page of the list holds a hundred predictions with their inputs.
const LIST_LIMIT: usize = 16 * 1024 * 1024;
/// How many pages are searched for a prediction, newest first.
const PAGES: u32 = 50;
/// How far Replicate's clock and ours may be apart.
const CLOCKS_APART: time::Duration = time::Duration::minutes(5);

/// The newest predictions of the account.
#[derive(Debug, Default)]
pub struct Listing {
    /// Newest first.
    predictions: Vec<Prediction>,
    /// Those that cannot be read, as they came.
    unreadable: Vec<String>,
    /// Whether it reaches as far back as it was asked for.
    is_whole: bool,
}

impl Listing {
    /// The newest prediction that was made of the photo at `photo`, and not in vain. `None` means that there certainly
    /// is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the list does not say.
    pub fn find(&self, photo: &str) -> Result<Option<&Prediction>, Error> {
        let found = self.all_of(photo)?.into_iter().find(|one| !one.is_vain());
        if found.is_none() {
            self.is_certain()?;
        }
        Ok(found)
    }

    /// All predictions that were made of the photo at `photo`, newest first, whatever became of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the list does not say.
    pub fn find_all(&self, photo: &str) -> Result<Vec<&Prediction>, Error> {
        let found = self.all_of(photo)?;
        // What was found counts; that there is nothing more is not known.
        if found.is_empty() {
            self.is_certain()?;
        }
        Ok(found)
    }

    /// One that cannot be read says nothing of the others, but it may be of this very photo.
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

impl Prediction {
    /// Whether it was certainly created before `since`, which is by our clock.
    fn is_before(&self, since: OffsetDateTime) -> bool {
        self.created_at.is_some_and(|Time(created_at)| created_at < since - CLOCKS_APART)
    }

    /// Whether it was made of the photo at `photo`: names of photos are never used twice.
    fn is_of(&self, photo: &str) -> bool {
        let image = self.input.as_ref().and_then(|input| input.input_image.as_ref()?.as_str());
        image.and_then(|image| Url::parse(image).ok()).is_some_and(|image| {
            image.path().strip_suffix(photo).is_some_and(|rest| rest.ends_with("/inputs/"))
        })
    }

    /// Whether another prediction is made in its place: it was stopped, or the platform failed.
    fn is_vain(&self) -> bool {
        matches!(self.status, Status::Canceled | Status::Aborted)
            || self.failure_reason() == Some("platform_error")
    }
}

impl Replicate {
    /// Lists the predictions that were created after `since`, by our clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(&self, since: OffsetDateTime) -> Result<Listing, Error> {
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
            // The cursor alone: the token goes to no other address, whatever an answer names.
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
    fn a_listed_prediction_that_cannot_be_read_concerns_its_own_photo_alone() {
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

    #[test]
    fn a_prediction_is_known_by_its_photo() {
        let of = |image: Value| {
            prediction(json!({"id": "x", "status": "starting", "input": {"input_image": image}}))
                .is_of("ada/photo.jpg")
        };
        let signed = "https://project.supabase.co/storage/v1/object/sign/inputs";
        assert!(of(json!(format!("{signed}/ada/photo.jpg?token=x"))));
        assert!(!of(json!(format!("{signed}/bob/ada/photo.jpg?token=x"))));
        assert!(!of(json!(format!("{signed}/ada/photo.jpg.png?token=x"))));
        assert!(!of(json!("https://elsewhere.example/?x=/inputs/ada/photo.jpg")));
        assert!(!of(json!(null)));
        assert!(!prediction(json!({"id": "x", "status": "starting"})).is_of("ada/photo.jpg"));
    }

    #[test]
    fn what_was_stopped_or_failed_with_its_platform_was_in_vain() {
        let is_vain = |status: &str, error: &str| {
            prediction(json!({"id": "x", "status": status, "error": error})).is_vain()
        };
        assert!(is_vain("canceled", "") && is_vain("aborted", "") && is_vain("failed", "code: PA"));
        for (status, error) in
            [("succeeded", ""), ("starting", ""), ("failed", "E005"), ("queued", "")]
        {
            assert!(!is_vain(status, error), "{status} {error}");
        }
    }
}
