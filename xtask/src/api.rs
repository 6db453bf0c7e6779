//! The admin API's promise: whoever was written for a released version keeps working. The OpenAPI document of each release is
//! kept in `docs/openapi/<version>.json`, and `docs/openapi.json`, which the server's tests hold to the server, may only add to it.
//!
//! What counts as incompatible: less is taken than before, or less is answered, or more is asked for. A new path, a new optional
//! parameter or member, a new member of an answer, a new value of an answer's enumeration are additions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// The document of the code as it is, and the folder of those that were released.
const CURRENT: &str = "docs/openapi.json";
const RELEASED: &str = "docs/openapi";

/// Compares the API as it is with every release's. Errors: each change that breaks somebody, by release and place.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let current = read(&root.join(CURRENT))?;
    let mut releases = 0;
    let mut found = Vec::new();
    let folder = root.join(RELEASED);
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let Some(version) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
            continue;
        };
        releases += 1;
        found.extend(
            changes(&read(&path)?, &current).into_iter().map(|change| format!("since {version}: {change}")),
        );
    }
    found.sort();
    if !found.is_empty() {
        bail!("the API breaks whom it was promised to:\n{}", found.join("\n"));
    }
    println!("the API holds what {releases} releases promised");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// What was promised and is no more.
fn changes(released: &Value, current: &Value) -> Vec<String> {
    let mut comparison = Comparison { released, current, found: Vec::new(), under_way: BTreeSet::new() };
    for (path, operations) in members(&released["paths"]) {
        for (method, operation) in members(operations) {
            let what = format!("{} {path}", method.to_uppercase());
            match &current["paths"][path][method] {
                Value::Null => comparison.found.push(format!("{what} is gone")),
                now => comparison.operation(&what, operation, now),
            }
        }
    }
    comparison.found
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Who writes what a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    /// A client: what was right stays right.
    ByClient,
    /// The server: what was promised is there.
    ByServer,
}

struct Comparison<'a> {
    released: &'a Value,
    current: &'a Value,
    found: Vec<String>,
    /// References that are being followed: schemas may hold themselves.
    under_way: BTreeSet<(String, String, Written)>,
}

impl<'a> Comparison<'a> {
    fn operation(&mut self, what: &str, was: &'a Value, now: &'a Value) {
        let role = |operation: &'a Value| operation["security"][0]["token"][0].as_str().unwrap_or("nobody");
        if role(was) != role(now) {
            self.found.push(format!("{what} was for the role {}, now {}", role(was), role(now)));
        }
        self.parameters(what, was, now);
        self.body(what, &was["requestBody"], &now["requestBody"]);
        for (status, answer) in members(&was["responses"]) {
            let now = &now["responses"][status];
            if now.is_null() {
                self.found.push(format!("{what} answers no {status} any more"));
                continue;
            }
            let what = format!("{what}, answer {status}");
            self.contents(&what, answer, now, Written::ByServer);
        }
    }

    fn parameters(&mut self, what: &str, was: &'a Value, now: &'a Value) {
        let key = |parameter: &'a Value| (parameter["in"].as_str(), parameter["name"].as_str());
        let find =
            |list: &'a Value, wanted: &'a Value| items(list).iter().find(|one| key(one) == key(wanted));
        let name = |parameter: &'a Value| parameter["name"].as_str().unwrap_or_default();
        for parameter in items(&was["parameters"]) {
            let what = format!("{what}, parameter {}", name(parameter));
            match find(&now["parameters"], parameter) {
                None => self.found.push(format!("{what} is gone")),
                Some(now) => {
                    if now["required"] == true && parameter["required"] != true {
                        self.found.push(format!("{what} is required now"));
                    }
                    self.schema(&what, &parameter["schema"], &now["schema"], Written::ByClient);
                }
            }
        }
        for parameter in items(&now["parameters"]) {
            if parameter["required"] == true && find(&was["parameters"], parameter).is_none() {
                self.found.push(format!("{what}, parameter {} is new and required", name(parameter)));
            }
        }
    }

    fn body(&mut self, what: &str, was: &'a Value, now: &'a Value) {
        let what = format!("{what}, body");
        if now["required"] == true && was["required"] != true {
            self.found.push(format!("{what} is required now"));
        }
        self.contents(&what, was, now, Written::ByClient);
    }

    fn contents(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        for (kind, content) in members(&was["content"]) {
            match &now["content"][kind] {
                Value::Null => self.found.push(format!("{what} is no {kind} any more")),
                now => self.schema(what, &content["schema"], &now["schema"], written),
            }
        }
    }

    fn schema(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        let key = (reference(was), reference(now), written);
        let is_reference = !key.0.is_empty() || !key.1.is_empty();
        if is_reference && !self.under_way.insert(key.clone()) {
            return;
        }
        let (was, now) = (resolve(self.released, was), resolve(self.current, now));
        self.kind(what, was, now, written);
        self.limits(what, was, now, written);
        self.object(what, was, now, written);
        self.alternatives(what, was, now, written);
        if was["items"].is_object() {
            self.schema(&format!("{what}[]"), &was["items"], &now["items"], written);
        }
        if was["additionalProperties"].is_object() {
            let what = format!("{what}.*");
            self.schema(&what, &was["additionalProperties"], &now["additionalProperties"], written);
        }
        if is_reference {
            self.under_way.remove(&key);
        }
    }

    /// Types and enumerations.
    fn kind(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        let (types_were, types_are) = (words(&was["type"]), words(&now["type"]));
        let is_held = match written {
            Written::ByClient => {
                types_are.is_empty() || (!types_were.is_empty() && types_were.is_subset(&types_are))
            }
            Written::ByServer => {
                types_were.is_empty() || (!types_are.is_empty() && types_are.is_subset(&types_were))
            }
        };
        if !is_held {
            self.found.push(format!(
                "{what} was of the type {}, now {}",
                list(&types_were),
                list(&types_are)
            ));
        }
        let (values_were, values_are) = (words(&was["enum"]), words(&now["enum"]));
        // A client is to bear a value that it does not know; a server refuses one.
        if written == Written::ByClient && !values_are.is_empty() {
            match values_were.is_empty() {
                true => self.found.push(format!("{what} takes {} only now", list(&values_are))),
                false => {
                    let gone: BTreeSet<_> = values_were.difference(&values_are).cloned().collect();
                    if !gone.is_empty() {
                        self.found.push(format!("{what} does not take {} any more", list(&gone)));
                    }
                }
            }
        }
        if was["format"] != now["format"] && (written == Written::ByServer || !now["format"].is_null()) {
            self.found.push(format!("{what} was of the format {}, now {}", was["format"], now["format"]));
        }
    }

    /// What a value has to keep to.
    fn limits(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        if written == Written::ByServer {
            return;
        }
        if was["pattern"] != now["pattern"] && !now["pattern"].is_null() {
            self.found.push(format!("{what} was to match {}, now {}", was["pattern"], now["pattern"]));
        }
        for (limit, is_lower) in [
            ("minimum", true),
            ("minItems", true),
            ("minLength", true),
            ("maximum", false),
            ("maxItems", false),
            ("maxLength", false),
        ] {
            let Some(is) = now[limit].as_f64() else { continue };
            let is_narrower =
                was[limit].as_f64().is_none_or(|was| if is_lower { is > was } else { is < was });
            if is_narrower {
                self.found.push(format!("{what} had the {limit} {}, now {}", was[limit], now[limit]));
            }
        }
    }

    fn object(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        for (name, schema) in members(&was["properties"]) {
            let what = format!("{what}.{name}");
            match &now["properties"][name] {
                Value::Null => self.found.push(format!("{what} is gone")),
                now => self.schema(&what, schema, now, written),
            }
        }
        let (required_were, required_are) = (words(&was["required"]), words(&now["required"]));
        let (held, says) = match written {
            Written::ByClient => (required_are.difference(&required_were), "is required now"),
            Written::ByServer => (required_were.difference(&required_are), "may be missing now"),
        };
        for name in
            held.filter(|name| written == Written::ByClient || !now["properties"][name.as_str()].is_null())
        {
            self.found.push(format!("{what}.{name} {says}"));
        }
    }

    /// `allOf` and `oneOf`: each has its like.
    fn alternatives(&mut self, what: &str, was: &'a Value, now: &'a Value, written: Written) {
        for (of, is_one) in [("allOf", false), ("oneOf", true)] {
            let (were, are) = (items(&was[of]), items(&now[of]));
            // What one may write has to be among what is taken, and what is answered among what was promised.
            let is_turned = is_one && written == Written::ByServer;
            let (these, those) = if is_turned { (are, were) } else { (were, are) };
            for this in these {
                let mut nearest: Option<Vec<String>> = None;
                for that in those {
                    let (was, now) = if is_turned { (that, this) } else { (this, that) };
                    let mut inner = Comparison {
                        released: self.released,
                        current: self.current,
                        found: Vec::new(),
                        under_way: self.under_way.clone(),
                    };
                    inner.schema(what, was, now, written);
                    let is_same = reference(was) == reference(now);
                    if inner.found.is_empty() || is_same || nearest.is_none() {
                        nearest = Some(inner.found);
                    }
                    if nearest.as_ref().is_some_and(Vec::is_empty) {
                        break;
                    }
                }
                match nearest {
                    Some(found) => self.found.extend(found),
                    None => self.found.push(format!("{what} has no {of} any more")),
                }
            }
        }
    }
}

fn reference(schema: &Value) -> String {
    schema["$ref"].as_str().unwrap_or_default().to_owned()
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let place = schema["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(schema)
}

/// One word, or several.
fn words(value: &Value) -> BTreeSet<String> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Null => BTreeSet::new(),
        Value::Array(values) => values.iter().map(word).collect(),
        value => BTreeSet::from([word(value)]),
    }
}

fn list(words: &BTreeSet<String>) -> String {
    if words.is_empty() { "any".into() } else { words.iter().cloned().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let page = json!({ "type": "object", "required": ["items"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Lamp" } },
            "next": { "type": ["string", "null"] } } });
        let lamp = json!({ "type": "object", "required": ["id"], "properties": {
            "id": { "type": "string" },
            "state": { "type": "string", "enum": ["new", "old"] },
            "at": { "type": "string", "format": "date-time" },
            "beside": { "$ref": "#/components/schemas/Lamp" } } });
        let new = json!({ "type": "object", "required": ["id"], "properties": {
            "id": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 64 },
            "channel": { "type": ["string", "null"] },
            "kind": { "type": "string", "enum": ["lamp", "fan"] } } });
        let answer = |name: &str| json!({ "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } } });
        json!({
            "paths": { "/lamps": {
                "get": {
                    "security": [{ "token": ["viewer"] }],
                    "parameters": [{ "in": "query", "name": "q", "required": false, "schema": { "type": "string" } }],
                    "responses": { "200": answer("Page") } },
                "post": {
                    "security": [{ "token": ["operator"] }],
                    "requestBody": { "required": true, "content": answer("New")["content"] },
                    "responses": { "201": answer("Lamp") } } } },
            "components": { "schemas": { "Page": page, "Lamp": lamp, "New": new } },
        })
    }

    /// What is found after a change at a place.
    fn after(place: &str, new: Value) -> Vec<String> {
        let mut current = document();
        *current.pointer_mut(place).unwrap() = new;
        changes(&document(), &current)
    }

    #[test]
    fn what_breaks_a_client_is_named() {
        let lamp = "/components/schemas/Lamp";
        let new = "/components/schemas/New";
        let get = "/paths/~1lamps/get";
        let cases = [
            ("/paths", json!({}), "GET /lamps is gone"),
            (
                &format!("{get}/security/0/token/0"),
                json!("admin"),
                "GET /lamps was for the role viewer, now admin",
            ),
            (&format!("{get}/parameters"), json!([]), "GET /lamps, parameter q is gone"),
            (&format!("{get}/parameters/0/required"), json!(true), "GET /lamps, parameter q is required now"),
            (&format!("{get}/parameters/0/in"), json!("header"), "GET /lamps, parameter q is gone"),
            (&format!("{get}/responses"), json!({ "204": {} }), "GET /lamps answers no 200 any more"),
            (
                "/components/schemas/Page/properties/items/items",
                json!({ "type": "string" }),
                "GET /lamps, answer 200.items[] was of the type object, now string",
            ),
            (
                "/components/schemas/Page/required",
                json!([]),
                "GET /lamps, answer 200.items may be missing now",
            ),
            (
                &format!("{lamp}/properties/id/type"),
                json!(["string", "null"]),
                "POST /lamps, answer 201.id was of the type string, now null, string",
            ),
            (
                &format!("{lamp}/properties/at/format"),
                json!("date"),
                "POST /lamps, answer 201.at was of the format \"date-time\", now \"date\"",
            ),
            (
                &format!("{new}/required"),
                json!(["id", "channel"]),
                "POST /lamps, body.channel is required now",
            ),
            (
                &format!("{new}/properties/id/maxLength"),
                json!(32),
                "POST /lamps, body.id had the maxLength 64, now 32",
            ),
            (
                &format!("{new}/properties/id/pattern"),
                json!("^a$"),
                "POST /lamps, body.id was to match \"^[a-z]+$\", now \"^a$\"",
            ),
            (
                &format!("{new}/properties/kind/enum"),
                json!(["lamp"]),
                "POST /lamps, body.kind does not take fan any more",
            ),
            (
                &format!("{new}/properties/channel/type"),
                json!("string"),
                "POST /lamps, body.channel was of the type null, string, now string",
            ),
            (&format!("{new}/properties"), json!({}), "POST /lamps, body.kind is gone"),
        ];
        for (place, new, expected) in cases {
            let found = after(place, new);
            assert!(found.iter().any(|change| change == expected), "{place}: {found:?}");
        }
    }

    #[test]
    fn additions_break_nobody() {
        assert_eq!(changes(&document(), &document()), Vec::<String>::new());
        for (place, new) in [
            ("/components/schemas/Lamp/properties/state/enum", json!(["new", "old", "broken"])),
            ("/components/schemas/New/properties/id/maxLength", json!(128)),
            ("/components/schemas/New/properties/kind/enum", json!(["lamp", "fan", "heater"])),
            ("/components/schemas/New/required", json!([])),
            ("/components/schemas/Page/required", json!(["items", "next"])),
            (
                "/paths/~1lamps/get/parameters",
                json!([
                    { "in": "query", "name": "q", "schema": { "type": "string" } },
                    { "in": "query", "name": "tag", "required": false, "schema": { "type": "string" } }
                ]),
            ),
        ] {
            assert_eq!(after(place, new), Vec::<String>::new(), "{place}");
        }
    }

    /// What the real document says of `oneOf` and `allOf` is compared with itself, and one of each is taken away.
    #[test]
    fn the_document_of_today_promises_what_it_says() {
        let current = read(&crate::repository_root().join(CURRENT)).unwrap();
        assert_eq!(changes(&current, &current), Vec::<String>::new());
        let text = current.to_string();
        let mut schemas: Vec<_> =
            members(&current["components"]["schemas"]).map(|(name, _)| name.clone()).collect();
        // Some are written out where they are used.
        schemas.retain(|name| text.contains(&format!("\"#/components/schemas/{name}\"")));
        assert!(schemas.len() > 30, "{schemas:?}");
        for name in schemas {
            let mut without = current.clone();
            let schema = &mut without["components"]["schemas"][&name];
            let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
                continue;
            };
            let Some(gone) = properties.keys().next().cloned() else { continue };
            properties.shift_remove(&gone);
            let found = changes(&current, &without);
            assert!(found.iter().any(|change| change.contains(&gone)), "{name}.{gone}: {found:?}");
        }
    }
}
