use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Writes a message as a server does.
fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let name = |out: &mut Vec<u8>, name: &str| {
        out.extend(name.as_bytes());
        out.push(0);
    };
    let lsn = |out: &mut Vec<u8>, lsn: Lsn| out.extend(lsn.byte().to_be_bytes());
    let tuple = |out: &mut Vec<u8>, kind: u8, fields: &[Field]| {
        out.push(kind);
        out.extend(u16::try_from(fields.len()).expect("few").to_be_bytes());
        for field in fields {
            match field {
                Field::Null => out.push(b'n'),
                Field::Unchanged => out.push(b'u'),
                Field::Text(text) => {
                    out.push(b't');
                    out.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
                    out.extend(text);
                }
            }
        }
    };
    let old = |out: &mut Vec<u8>, of: &OldTuple| match of {
        OldTuple::Key(fields) => tuple(out, b'K', fields),
        OldTuple::Whole(fields) => tuple(out, b'O', fields),
    };
    match message {
        Message::Begin {
            commit,
            micros,
            xid,
        } => {
            out.push(b'B');
            lsn(&mut out, *commit);
            out.extend(micros.to_be_bytes());
            out.extend(xid.to_be_bytes());
        }
        Message::Commit {
            commit,
            end,
            micros,
        } => {
            out.extend([b'C', 0]);
            lsn(&mut out, *commit);
            lsn(&mut out, *end);
            out.extend(micros.to_be_bytes());
        }
        Message::Origin => {
            out.push(b'O');
            lsn(&mut out, Lsn::new(7));
            name(&mut out, "elsewhere");
        }
        Message::Relation(of) => {
            out.push(b'R');
            out.extend(of.id.to_be_bytes());
            name(&mut out, &of.schema);
            name(&mut out, &of.name);
            out.push(of.identity);
            out.extend(u16::try_from(of.columns.len()).expect("few").to_be_bytes());
            for column in &of.columns {
                out.push(u8::from(column.is_key));
                name(&mut out, &column.name);
                out.extend(column.type_id.to_be_bytes());
                out.extend(column.modifier.to_be_bytes());
            }
        }
        Message::Type => {
            out.push(b'Y');
            out.extend(9_u32.to_be_bytes());
            name(&mut out, "public");
            name(&mut out, "mood");
        }
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend(relation.to_be_bytes());
            tuple(&mut out, b'N', new);
        }
        Message::Update {
            relation,
            old: was,
            new,
        } => {
            out.push(b'U');
            out.extend(relation.to_be_bytes());
            if let Some(was) = was {
                old(&mut out, was);
            }
            tuple(&mut out, b'N', new);
        }
        Message::Delete { relation, old: was } => {
            out.push(b'D');
            out.extend(relation.to_be_bytes());
            old(&mut out, was);
        }
        Message::Truncate { relations } => {
            out.push(b'T');
            let count = u32::try_from(relations.len()).expect("few");
            out.extend(count.to_be_bytes());
            out.push(0);
            for relation in relations {
                out.extend(relation.to_be_bytes());
            }
        }
        Message::Application => {
            out.extend([b'M', 1]);
            lsn(&mut out, Lsn::new(8));
            name(&mut out, "app");
            out.extend(2_u32.to_be_bytes());
            out.extend([1, 2]);
        }
    }
    out
}

fn tuples() -> impl Strategy<Value = ReplicaTuple> {
    let field = prop_oneof![
        Just(Field::Null),
        Just(Field::Unchanged),
        vec(any::<u8>(), 0..9).prop_map(Field::Text),
    ];
    vec(field, 0..6)
}

fn messages() -> impl Strategy<Value = Message> {
    let old = || {
        prop_oneof![
            tuples().prop_map(OldTuple::Key),
            tuples().prop_map(OldTuple::Whole)
        ]
    };
    let lsns = || any::<u64>().prop_map(Lsn::new);
    let column = (any::<bool>(), "[a-zä ]{0,5}", any::<u32>(), any::<i32>()).prop_map(
        |(is_key, name, type_id, modifier)| ColumnDefinition {
            is_key,
            name,
            type_id,
            modifier,
        },
    );
    prop_oneof![
        (lsns(), any::<i64>(), any::<u32>()).prop_map(|(commit, micros, xid)| Message::Begin {
            commit,
            micros,
            xid
        }),
        (lsns(), lsns(), any::<i64>()).prop_map(|(commit, end, micros)| Message::Commit {
            commit,
            end,
            micros
        }),
        Just(Message::Origin),
        Just(Message::Type),
        Just(Message::Application),
        (
            any::<u32>(),
            "[a-z]{1,5}",
            "[a-z]{0,5}",
            any::<u8>(),
            vec(column, 0..5)
        )
            .prop_map(|(id, schema, name, identity, columns)| {
                Message::Relation(RelationDefinition {
                    id,
                    schema,
                    name,
                    identity,
                    columns,
                })
            }),
        (any::<u32>(), tuples()).prop_map(|(relation, new)| Message::Insert { relation, new }),
        (any::<u32>(), prop::option::of(old()), tuples())
            .prop_map(|(relation, old, new)| { Message::Update { relation, old, new } }),
        (any::<u32>(), old()).prop_map(|(relation, old)| Message::Delete { relation, old }),
        vec(any::<u32>(), 0..4).prop_map(|relations| Message::Truncate { relations }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_server_writes_is_read_again(message in messages()) {
        prop_assert_eq!(decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn no_bytes_are_too_much(bytes in vec(any::<u8>(), 0..200)) {
        decode(&bytes).ok();
    }

    #[test]
    fn a_message_that_was_cut_or_changed_is_no_panic(
        message in messages(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut bytes = encode(&message);
        let at = at.index(bytes.len());
        prop_assert!(decode(&bytes[..at]).is_err());
        bytes[at] = with;
        decode(&bytes).ok();
    }
}

#[test]
fn a_count_that_promises_more_than_there_is_takes_no_memory_for_it() {
    let mut bytes = vec![b'T'];
    bytes.extend(u32::MAX.to_be_bytes());
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(LogFault::Short));
    let mut bytes = vec![b'I', 0, 0, 0, 1, b'N', 0, 1, b't'];
    bytes.extend(u32::MAX.to_be_bytes());
    assert_eq!(decode(&bytes), Err(LogFault::Short));
}
