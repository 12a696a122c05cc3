//! The forms that each method over refs has beside itself.

/// The forms of a method of an extension trait that differ from it in what they take: with options, over an input that can
/// fail, and both.
///
/// Each calls `drive` by itself, as that says.
macro_rules! other_forms {
    (
        $method:ident, $with:ident, $try:ident, $try_with:ident,
        $operation:path, $result:ident, $try_result:ident, $refs:path
    ) => {
        #[doc = concat!("[`", stringify!($method), "`](Self::", stringify!($method), ") with [`Options`].")]
        fn $with<R, T>(
            self,
            client: &Client,
            options: &Options,
        ) -> Adapter<Self, impl Stream<Item = $result<R, T>> + use<Self, R, T>>
        where
            Self::Item: Tagged<Input = R, Tag = T>,
            R: $refs,
        {
            drive(Items, self, $operation(options), client, options)
        }

        #[doc = concat!("[`", stringify!($method), "`](Self::", stringify!($method), ") over an input that can fail, as")]
        /// [`try_push_to`](crate::PushExt::try_push_to) is.
        fn $try<I, R, T, E>(
            self,
            client: &Client,
        ) -> Adapter<Self, impl Stream<Item = $try_result<E, R, T>> + use<Self, I, R, T, E>>
        where
            Self: Stream<Item = Result<I, E>>,
            I: Tagged<Input = R, Tag = T>,
            R: $refs,
        {
            let options = Options::new();
            drive(Items, self, $operation(&options), client, &options)
        }

        #[doc = concat!("[`", stringify!($try), "`](Self::", stringify!($try), ") with [`Options`].")]
        fn $try_with<I, R, T, E>(
            self,
            client: &Client,
            options: &Options,
        ) -> Adapter<Self, impl Stream<Item = $try_result<E, R, T>> + use<Self, I, R, T, E>>
        where
            Self: Stream<Item = Result<I, E>>,
            I: Tagged<Input = R, Tag = T>,
            R: $refs,
        {
            drive(Items, self, $operation(options), client, options)
        }
    };
}

pub(crate) use other_forms;
