use proptest::prelude::*;

use super::*;

fn name<T>() -> impl Strategy<Value = T>
where
    T: FromStr + fmt::Debug,
    T::Err: fmt::Debug,
{
    // Short names over few letters, so that one is often the beginning of another.
    prop_oneof!["[a-b][a-b0-1_]{0,2}", "[a-z][a-z0-9_]{0,62}"]
        .prop_map(|text| text.parse().unwrap())
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        proptest::array::uniform16(0u8..2),
        proptest::array::uniform16(any::<u8>())
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..12, any::<u32>()]
}

fn run() -> impl Strategy<Value = RunId> {
    id().prop_map(RunId::from_bytes)
}

fn task() -> impl Strategy<Value = TaskId> {
    id().prop_map(TaskId::from_bytes)
}

fn record_key() -> impl Strategy<Value = RecordKey> {
    let worker = "[a-zA-Z0-9._-]{1,128}".prop_map(|text: String| text.parse().unwrap());
    let digest = proptest::array::uniform32(any::<u8>()).prop_map(DocumentDigest::from_bytes);
    prop_oneof![
        Just(RecordKey::Format),
        Just(RecordKey::Leader),
        Just(RecordKey::High),
        worker.prop_map(RecordKey::Worker),
        (name(), digest, number()).prop_map(|(name, digest, part)| RecordKey::Pipeline {
            name,
            digest,
            part
        }),
        run().prop_map(RecordKey::Run),
        (run(), name(), number()).prop_map(|(run, step, part)| RecordKey::Facts {
            run,
            step,
            part
        }),
        (run(), number(), name(), number()).prop_map(|(run, generation, step, part)| {
            RecordKey::Plan {
                run,
                generation,
                step,
                part,
            }
        }),
        (run(), number(), name()).prop_map(|(run, generation, step)| RecordKey::Step {
            run,
            generation,
            step
        }),
        (run(), number(), name(), any::<u8>(), number()).prop_map(
            |(run, generation, step, phase, number)| {
                RecordKey::Segment {
                    run,
                    generation,
                    step,
                    phase,
                    number,
                }
            }
        ),
        (run(), task()).prop_map(|(run, task)| RecordKey::Attempt { run, task }),
        (run(), task()).prop_map(|(run, task)| RecordKey::Retry { run, task }),
        (run(), task()).prop_map(|(run, task)| RecordKey::Dead { run, task }),
        any::<String>().prop_map(RecordKey::Watermark),
        name().prop_map(RecordKey::Schedule),
        any::<u64>().prop_map(RecordKey::Audit),
    ]
}

proptest! {
    #[test]
    fn a_key_survives_its_text(key in record_key()) {
        prop_assert_eq!(RecordKey::parse(&key.render()), Ok(key));
    }

    #[test]
    fn no_key_lies_below_another(a in record_key(), b in record_key()) {
        let below = a.render() + "/";
        prop_assert!(a == b || !b.render().starts_with(&below));
    }

    #[test]
    fn a_text_that_parses_is_the_keys_only_text(text in "(fmt|hi|worker|run|wm|audit|att)(/[0-9a-fA-F%+]{0,33}){0,3}") {
        if let Ok(key) = RecordKey::parse(&text) {
            prop_assert_eq!(key.render(), text);
        }
    }

    #[test]
    fn the_order_of_bytes_is_the_order_of_numbers(run in run(), step in name::<StepName>(), a: (u32, u8, u32), b: (u32, u8, u32)) {
        let key = |(generation, phase, number)| {
            RecordKey::Segment { run, generation, step: step.clone(), phase, number }.render()
        };
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
    }

    #[test]
    fn audits_are_ordered_by_their_number(a: u64, b: u64) {
        prop_assert_eq!(RecordKey::Audit(a).render().cmp(&RecordKey::Audit(b).render()), a.cmp(&b));
    }

    #[test]
    fn the_prefix_of_a_step_holds_its_segments_and_no_others(
        run in run(), generation in number(), step in name::<StepName>(), key in record_key(),
    ) {
        let inside = matches!(
            &key,
            RecordKey::Segment { run: r, generation: g, step: s, .. } if (r, g, s) == (&run, &generation, &step)
        );
        prop_assert_eq!(key.render().starts_with(&prefix::segments_of_step(&run, generation, &step)), inside);
        let own = RecordKey::Segment { run, generation, step: step.clone(), phase: 0, number: 0 };
        prop_assert!(own.render().starts_with(&prefix::segments_of_step(&run, generation, &step)));
    }

    #[test]
    fn the_prefix_of_a_runs_attempts_holds_them_and_no_others(run in run(), task in task(), key in record_key()) {
        let inside = matches!(&key, RecordKey::Attempt { run: r, .. } if *r == run);
        prop_assert_eq!(key.render().starts_with(&prefix::attempts(&run)), inside);
        let own = RecordKey::Attempt { run, task }.render();
        prop_assert!(own.starts_with(&prefix::attempts(&run)));
    }
}

#[test]
fn every_key_lies_below_the_prefixes_that_are_meant_for_it() {
    let (run, task) = (RunId::from_bytes([7; 16]), TaskId::from_bytes([9; 16]));
    let (name, step) = (
        "shop".parse::<PipelineName>().unwrap(),
        "orders".parse::<StepName>().unwrap(),
    );
    let digest = DocumentDigest::of(b"spec");
    let pipeline = RecordKey::Pipeline {
        name: name.clone(),
        digest,
        part: 0,
    };
    let facts = RecordKey::Facts {
        run,
        step: step.clone(),
        part: 1,
    };
    let plan = RecordKey::Plan {
        run,
        generation: 2,
        step: step.clone(),
        part: 3,
    };
    let progress = RecordKey::Step {
        run,
        generation: 2,
        step: step.clone(),
    };
    let segment = RecordKey::Segment {
        run,
        generation: 2,
        step: step.clone(),
        phase: 1,
        number: 4,
    };
    let table = [
        (RecordKey::Worker("w-1".parse().unwrap()), prefix::workers()),
        (pipeline.clone(), prefix::pipelines()),
        (pipeline.clone(), prefix::versions(&name)),
        (pipeline, prefix::version(&name, &digest)),
        (RecordKey::Run(run), prefix::runs()),
        (facts.clone(), prefix::facts(&run)),
        (facts, prefix::facts_of_step(&run, &step)),
        (plan.clone(), prefix::plans(&run)),
        (plan.clone(), prefix::plans_of_generation(&run, 2)),
        (plan, prefix::plan_of_step(&run, 2, &step)),
        (progress.clone(), prefix::steps(&run)),
        (progress, prefix::steps_of_generation(&run, 2)),
        (segment.clone(), prefix::segments(&run)),
        (segment, prefix::segments_of_generation(&run, 2)),
        (RecordKey::Retry { run, task }, prefix::retries(&run)),
        (RecordKey::Dead { run, task }, prefix::dead(&run)),
        (
            RecordKey::Watermark("shop/orders/a:t/b".to_owned()),
            prefix::watermarks(),
        ),
        (RecordKey::Audit(5), prefix::audits()),
    ];
    for (key, prefix) in table {
        assert!(key.render().starts_with(&prefix), "{key} below {prefix}");
        assert!(prefix.ends_with('/'), "{prefix}");
    }
    assert_eq!(
        RecordKey::Watermark("shop/orders/a:t/b".to_owned()).render(),
        "wm/shop%2forders%2fa:t%2fb"
    );
}
