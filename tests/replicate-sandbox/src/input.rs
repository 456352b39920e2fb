//! What a create call may say.

use serde_json::{Map, Value};
use time::Duration;

use crate::prediction::Event;
use crate::problem::Problem;

const RATIOS: [&str; 14] = [
    "match_input_image",
    "1:1",
    "16:9",
    "9:16",
    "4:3",
    "3:4",
    "3:2",
    "2:3",
    "4:5",
    "5:4",
    "21:9",
    "9:21",
    "2:1",
    "1:2",
];
const SHORTEST_DEADLINE: Duration = Duration::seconds(5);

/// A create call's body, once it was judged.
pub(crate) struct Creation {
    pub(crate) version: Option<String>,
    pub(crate) input: Map<String, Value>,
    pub(crate) webhook: Option<String>,
    pub(crate) events: Vec<Event>,
}

/// Reads a body; `version` is a member only where no model stands in the path.
pub(crate) fn read(body: Value, takes_version: bool) -> Result<Creation, Problem> {
    let Value::Object(mut body) = body else {
        return Err(fault("body", "Invalid type. Expected: object"));
    };
    let Some(Value::Object(input)) = body.remove("input") else {
        return Err(fault("input", "input is required"));
    };
    let version = if takes_version { body.remove("version") } else { None };
    if takes_version && version.as_ref().and_then(Value::as_str).is_none() {
        return Err(fault("version", "version is required"));
    }
    let webhook = match body.remove("webhook") {
        None | Some(Value::Null) => None,
        Some(Value::String(webhook)) if webhook.starts_with("http") => Some(webhook),
        Some(_) => return Err(fault("webhook", "Does not match format 'uri'")),
    };
    let events = match body.remove("webhook_events_filter") {
        None | Some(Value::Null) => Event::ALL.to_vec(),
        Some(events) => serde_json::from_value(events).map_err(|_| {
            fault("webhook_events_filter", "must be of start, output, logs, completed")
        })?,
    };
    if let Some((name, _)) = body.into_iter().next() {
        return Err(fault(&name, &format!("Additional property {name} is not allowed")));
    }
    let version = version.and_then(|version| version.as_str().map(str::to_owned));
    Ok(Creation { version, input, webhook, events })
}

/// Judges an input as the models' own schemas do.
pub(crate) fn judge(model: &str, input: &Map<String, Value>) -> Result<(), Problem> {
    let is_dev = model.ends_with("-dev");
    let mut faults = Vec::new();
    let mut note = |field: &str, fault: String| faults.push((format!("input.{field}"), fault));
    if input.get("prompt").and_then(Value::as_str).is_none_or(str::is_empty) {
        note("prompt", "prompt is required".to_owned());
    }
    if is_dev && !input.contains_key("input_image") {
        note("input_image", "input_image is required".to_owned());
    }
    let formats: &[&str] = if is_dev { &["webp", "jpg", "png"] } else { &["png", "jpg"] };
    for (name, value) in input {
        let fault = match name.as_str() {
            "input_image" => uri(value),
            "aspect_ratio" => one_of(value, &RATIOS),
            "output_format" => one_of(value, formats),
            "seed" if value.is_null() => None,
            "seed" => between(value, 0.0, 4_294_967_295.0),
            "safety_tolerance" if !is_dev => between(value, 0.0, 6.0),
            "prompt_upsampling" if !is_dev => {
                (!value.is_boolean()).then(|| "Invalid type. Expected: boolean".to_owned())
            }
            "num_inference_steps" if is_dev => between(value, 4.0, 50.0),
            "guidance" if is_dev => between(value, 0.0, 10.0),
            "output_quality" if is_dev => between(value, 0.0, 100.0),
            _ => None,
        };
        if let Some(fault) = fault {
            note(name, fault);
        }
    }
    // With a picture to start from, more than 2 is not permitted.
    let tolerance = input.get("safety_tolerance").and_then(Value::as_i64);
    if input.get("input_image").is_some_and(Value::is_string)
        && tolerance.is_some_and(|value| value > 2)
    {
        note("safety_tolerance", "Must be less than or equal to 2 with an input image".to_owned());
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(&faults)) }
}

/// `30`, `30s`, `5m`, `1h30m45s`.
pub(crate) fn deadline(text: &str) -> Result<Duration, Problem> {
    let refused = || fault("Cancel-After", "must be a duration of at least 5 seconds, such as 5m");
    let mut seconds = 0;
    let mut number = String::new();
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(refused()),
        };
        seconds += unit * number.parse::<i64>().map_err(|_| refused())?;
        number.clear();
    }
    if !number.is_empty() {
        seconds += number.parse::<i64>().map_err(|_| refused())?;
    }
    let deadline = Duration::seconds(seconds);
    if deadline < SHORTEST_DEADLINE { Err(refused()) } else { Ok(deadline) }
}

fn fault(field: &str, fault: &str) -> Problem {
    Problem::invalid(&[(field.to_owned(), fault.to_owned())])
}

fn uri(value: &Value) -> Option<String> {
    let valid = value.is_null()
        || value.as_str().is_some_and(|uri| uri.starts_with("http") || uri.starts_with("data:"));
    (!valid).then(|| "Does not match format 'uri'".to_owned())
}

fn one_of(value: &Value, choices: &[&str]) -> Option<String> {
    let valid = value.as_str().is_some_and(|value| choices.contains(&value));
    (!valid).then(|| format!("Must be one of the following: {choices:?}"))
}

fn between(value: &Value, least: f64, most: f64) -> Option<String> {
    let valid = value.as_f64().is_some_and(|value| (least..=most).contains(&value));
    (!valid).then(|| format!("Must be a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(value: &Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_deadline_is_read_in_each_of_its_forms() {
        for (text, seconds) in [("30", 30), ("30s", 30), ("5m", 300), ("1h30m45s", 5445)] {
            assert_eq!(deadline(text).ok(), Some(Duration::seconds(seconds)), "{text}");
        }
        for text in ["4", "", "soon", "-5", "m", "5x"] {
            assert!(deadline(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_members_and_missing_ones_are_refused() {
        assert!(read(json!({ "input": {} }), false).is_ok());
        assert!(read(json!({ "input": {}, "stream": true }), false).is_err());
        assert!(read(json!({}), false).is_err());
        assert!(read(json!({ "input": {} }), true).is_err());
        assert!(read(json!({ "input": {}, "webhook": "not one" }), false).is_err());
    }

    #[test]
    fn an_input_is_judged_by_its_models_schema() {
        let pro = "black-forest-labs/flux-kontext-pro";
        let dev = "black-forest-labs/flux-kontext-dev";
        let photo = "https://example.com/a.jpg";
        for (model, value, valid) in [
            (pro, json!({ "prompt": "a" }), true),
            (pro, json!({ "prompt": "a", "input_image": photo, "output_format": "webp" }), false),
            (dev, json!({ "prompt": "a", "input_image": photo, "output_format": "webp" }), true),
            (dev, json!({ "prompt": "a" }), false),
            (pro, json!({}), false),
            (pro, json!({ "prompt": "a", "seed": -1 }), false),
            (pro, json!({ "prompt": "a", "aspect_ratio": "7:3" }), false),
            (pro, json!({ "prompt": "a", "safety_tolerance": 5 }), true),
            (pro, json!({ "prompt": "a", "safety_tolerance": 5, "input_image": photo }), false),
        ] {
            assert_eq!(judge(model, &input(&value)).is_ok(), valid, "{model} {value}");
        }
    }
}
