//! The inputs of each model, defined once: for the published schema and for the checks.

use serde_json::{Map, Value, json};

use crate::problem::{Invalid, Problem};

/// The last two are not in the schema of the dev model. Its published code has only the others.
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
/// The largest tolerance if there is an input picture.
const TOLERANCE_WITH_IMAGE: i64 = 2;

/// The JSON schema of a model's `input`.
pub(crate) fn of_input(model: &str) -> Value {
    let is_dev = model.ends_with("-dev");
    let formats: &[&str] = if is_dev { &["webp", "jpg", "png"] } else { &["png", "jpg"] };
    let ratios = if is_dev { &RATIOS[..12] } else { &RATIOS[..] };
    let mut properties = json!({
        "prompt": { "type": "string" },
        "input_image": { "type": "string", "format": "uri", "nullable": !is_dev },
        "aspect_ratio": { "type": "string", "enum": ratios, "default": "match_input_image" },
        "output_format": { "type": "string", "enum": formats, "default": formats[0] },
        "seed": { "type": "integer", "nullable": true },
    });
    let own = if is_dev {
        json!({
            "num_inference_steps":
                { "type": "integer", "minimum": 4, "maximum": 50, "default": 30 },
            "guidance": { "type": "number", "minimum": 0, "maximum": 10, "default": 2.5 },
            "output_quality": { "type": "integer", "minimum": 0, "maximum": 100, "default": 80 },
        })
    } else {
        json!({
            "safety_tolerance": { "type": "integer", "minimum": 0, "maximum": 6, "default": 2 },
            "prompt_upsampling": { "type": "boolean", "default": false },
        })
    };
    for (name, property) in own.as_object().into_iter().flatten() {
        properties[name] = property.clone();
    }
    let required: &[&str] = if is_dev { &["prompt", "input_image"] } else { &["prompt"] };
    json!({ "type": "object", "title": "Input", "properties": properties, "required": required })
}

/// Checks an input against the schema of its model. Unknown members are ignored.
pub(crate) fn check_input(model: &str, input: &Map<String, Value>) -> Result<(), Problem> {
    let schema = of_input(model);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut faults: Vec<Invalid> = required
        .filter(|name| !input.contains_key(*name))
        .map(|name| Invalid::required(&format!("input.{name}")))
        .collect();
    for (name, value) in input {
        let property = &schema["properties"][name];
        let fault = if property.is_null() { None } else { fault_of(property, value) };
        faults.extend(fault.map(|(kind, text)| Invalid::new(kind, &format!("input.{name}"), text)));
    }
    let tolerance = input.get("safety_tolerance").and_then(Value::as_i64);
    if input.get("input_image").is_some_and(Value::is_string)
        && tolerance.is_some_and(|value| value > TOLERANCE_WITH_IMAGE)
    {
        let text = format!("Must be less than or equal to {TOLERANCE_WITH_IMAGE}");
        faults.push(Invalid::new("number_lte", "input.safety_tolerance", text));
    }
    faults.sort_by(|one, other| one.field.cmp(&other.field));
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(&faults)) }
}

/// What is wrong with a value: a kind and a sentence. `None` if it is valid.
fn fault_of(property: &Value, value: &Value) -> Option<(&'static str, String)> {
    if value.is_null() && property["nullable"] == true {
        return None;
    }
    let expected = property["type"].as_str().unwrap_or_default();
    let given = type_of(value);
    if expected != given && (expected, given) != ("number", "integer") {
        let text = format!("Invalid type. Expected: {expected}, given: {given}");
        return Some(("invalid_type", text));
    }
    if let Some(allowed) = property["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Some(("enum", format!("Must be one of the following: {}", allowed.join(", "))));
    }
    let schemes = ["http://", "https://", "data:"];
    if property["format"] == "uri"
        && !value.as_str().is_some_and(|uri| schemes.iter().any(|scheme| uri.starts_with(scheme)))
    {
        return Some(("format", "Does not match format 'uri'".to_owned()));
    }
    let number = value.as_f64()?;
    if property["minimum"].as_f64().is_some_and(|least| number < least) {
        let text = format!("Must be greater than or equal to {}", property["minimum"]);
        return Some(("number_gte", text));
    }
    let most = property["maximum"].as_f64().filter(|most| number > *most);
    most.map(|most| ("number_lte", format!("Must be less than or equal to {most}")))
}

/// The type of a value, in the terms of JSON schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRO: &str = "black-forest-labs/flux-kontext-pro";
    const DEV: &str = "black-forest-labs/flux-kontext-dev";
    const PHOTO: &str = "https://example.com/a.jpg";

    fn is_valid(model: &str, input: &Value) -> bool {
        check_input(model, input.as_object().expect("an object")).is_ok()
    }

    #[test]
    fn an_input_is_judged_by_its_models_schema() {
        for (model, input, valid) in [
            (PRO, json!({ "prompt": "a" }), true),
            (PRO, json!({ "prompt": "a", "input_image": null, "seed": null }), true),
            (PRO, json!({ "prompt": "a", "input_image": PHOTO, "output_format": "webp" }), false),
            (DEV, json!({ "prompt": "a", "input_image": PHOTO, "output_format": "webp" }), true),
            (DEV, json!({ "prompt": "a", "input_image": PHOTO, "guidance": 3 }), true),
            (DEV, json!({ "prompt": "a", "input_image": PHOTO, "guidance": 10.5 }), false),
            (DEV, json!({ "prompt": "a", "input_image": PHOTO, "aspect_ratio": "9:21" }), true),
            (DEV, json!({ "prompt": "a", "input_image": PHOTO, "aspect_ratio": "2:1" }), false),
            (PRO, json!({ "prompt": "a", "aspect_ratio": "1:2" }), true),
            (DEV, json!({ "prompt": "a" }), false),
            (DEV, json!({ "prompt": "a", "input_image": null }), false),
            (PRO, json!({}), false),
            (PRO, json!({ "prompt": 7 }), false),
            (PRO, json!({ "prompt": "a", "input_image": "ftp://example.com/a.jpg" }), false),
            (PRO, json!({ "prompt": "a", "seed": 1.5 }), false),
            (PRO, json!({ "prompt": "a", "seed": "1" }), false),
            (PRO, json!({ "prompt": "a", "aspect_ratio": "7:3" }), false),
            (PRO, json!({ "prompt": "a", "prompt_upsampling": "yes" }), false),
            (PRO, json!({ "prompt": "a", "safety_tolerance": 5 }), true),
            (PRO, json!({ "prompt": "a", "safety_tolerance": 7 }), false),
            (PRO, json!({ "prompt": "a", "safety_tolerance": 5, "input_image": PHOTO }), false),
        ] {
            assert_eq!(is_valid(model, &input), valid, "{model} {input}");
        }
    }

    #[test]
    fn a_fault_says_what_is_wrong_and_where() {
        let property = &of_input(DEV)["properties"]["num_inference_steps"];
        let (kind, text) = fault_of(property, &json!(3)).expect("a fault");
        assert_eq!((kind, text.as_str()), ("number_gte", "Must be greater than or equal to 4"));
        let (kind, text) = fault_of(property, &json!("3")).expect("a fault");
        let expected = "Invalid type. Expected: integer, given: string";
        assert_eq!((kind, text.as_str()), ("invalid_type", expected));
    }
}
