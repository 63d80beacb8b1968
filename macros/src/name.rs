//! Event names: the default one of a type, and what is wrong with a given one.

/// The words of `ident` in lower case, joined by dots; an acronym is one word. Empty if `ident` has only underscores.
pub(crate) fn of_type(ident: &str) -> String {
    let words: Vec<String> = ident.split('_').flat_map(words).collect();
    words.join(".")
}

fn words(part: &str) -> Vec<String> {
    let chars: Vec<char> = part.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (i, &c) in chars.iter().enumerate() {
        if i == 0 || starts_word(chars[i - 1], c, chars.get(i + 1)) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// A capital starts a word unless it stands inside an acronym (`HTTP`); the last one of a run starts the next word.
fn starts_word(before: char, c: char, after: Option<&char>) -> bool {
    c.is_uppercase() && (!before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()))
}

/// What is wrong with `name`, or `None` if it can name an event.
pub(crate) fn fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    let mut faults = Vec::new();
    if name.split('.').any(str::is_empty) {
        faults.push("it has an empty token".to_owned());
    }
    let mut refused: Vec<char> = name.chars().filter(|&c| !is_allowed(c)).collect();
    refused.sort_unstable();
    refused.dedup();
    faults.extend(refused.into_iter().map(refusal));
    (!faults.is_empty()).then(|| faults.join(", "))
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.')
}

fn refusal(c: char) -> String {
    match c {
        '*' | '>' => format!("`{c}` belongs to patterns"),
        ' ' => "a space is not allowed".to_owned(),
        c => format!("`{}` is not allowed", c.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_named_by_its_words() {
        let cases = [
            ("OrderPlaced", "order.placed"),
            ("HTTPRequest", "http.request"),
            ("OrderID", "order.id"),
            ("Tick", "tick"),
            ("HTTP", "http"),
            ("OrderV2", "order.v2"),
            ("S3ObjectPut", "s3.object.put"),
            ("HTTP2Request", "http2.request"),
            ("Order_Placed", "order.placed"),
            ("ÜberweisungErhalten", "überweisung.erhalten"),
            ("__", ""),
        ];
        for (ident, name) in cases {
            assert_eq!(of_type(ident), name, "{ident}");
        }
    }

    #[test]
    fn names_of_tokens_are_allowed() {
        for name in ["order", "order.placed", "a-b.c_d.9", "größe.neu"] {
            assert_eq!(fault(name), None, "{name}");
        }
    }

    #[test]
    fn a_bad_name_is_told_all_its_faults() {
        let cases = [
            ("", "it is empty"),
            (".", "it has an empty token"),
            ("a..b", "it has an empty token"),
            (".a", "it has an empty token"),
            ("a.", "it has an empty token"),
            ("a.*", "`*` belongs to patterns"),
            ("a b", "a space is not allowed"),
            ("a\tb", "`\\t` is not allowed"),
            (
                "a b..*.>",
                "it has an empty token, a space is not allowed, `*` belongs to patterns, `>` belongs to patterns",
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(fault(name).as_deref(), Some(expected), "{name:?}");
        }
    }
}
