use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case::express("/users/:userId/posts/:postId", "/users/{userId}/posts/{postId}")]
#[case::express_optional("/users/:userId?", "/users/{userId?}")]
#[case::express_4_pattern(r"/users/:id(\d+)", "/users/{id}")]
#[case::express_4_group("/files/(.*)", "/files/{*}")]
#[case::express_4_star("/files/*", "/files/{*}")]
#[case::express_5_rest("/files/*path", "/files/{path*}")]
#[case::express_5_optional("/users{/:id}/edit", "/users/{id?}/edit")]
#[case::express_5_format("/feed{.:format}", "/feed")]
#[case::express_two("/flights/:from-:to", "/flights/{from}-{to}")]
#[case::express_extension("/files/:name.:ext", "/files/{name}.{ext}")]
#[case::fastify("/at/:hour(^\\d{2})h:minute(^\\d{2})m", "/at/{hour}h:minute{}m")]
#[case::hono("/posts/:date{[0-9]+}/:title{[a-z]+}", "/posts/{date}/{title}")]
#[case::gin("/user/:name/*action", "/user/{name}/{action*}")]
#[case::echo("/static*", "/static{*}")]
#[case::rails("/users/:id(.:format)", "/users/{id}")]
#[case::rails_scope("(/:locale)/posts(.:format)", "/{locale?}/posts")]
#[case::sinatra("/say/*/to/*", "/say/{}/to/{*}")]
#[case::phoenix("/pages/*path", "/pages/{path*}")]
#[case::axum_old("/users/:id/*rest", "/users/{id}/{rest*}")]
#[case::axum("/users/{id}/{*rest}", "/users/{id}/{rest*}")]
#[case::spring("/owners/{ownerId}/pets/{petId:[0-9]+}", "/owners/{ownerId}/pets/{petId}")]
#[case::spring_rest("/resources/**", "/resources/{*}")]
#[case::spring_ant("/files/*/raw", "/files/{}/raw")]
#[case::spring_captures("/docs/{*path}", "/docs/{path*}")]
#[case::jax_rs(r"/users/{id: \d+}/{path: .*}", "/users/{id}/{path*}")]
#[case::asp_net("api/Products/{id:int:min(1)}", "/api/Products/{id}")]
#[case::asp_net_optional("{controller=Home}/{action=Index}/{id?}", "/{controller?}/{action?}/{id?}")]
#[case::asp_net_int_optional("/items/{id:int?}", "/items/{id?}")]
#[case::asp_net_rest("/{**slug}", "/{slug*}")]
#[case::asp_net_regex(r"/ssn/{ssn:regex(^\d{{3}}-\d{{2}}$)}", "/ssn/{ssn}")]
#[case::go("GET /items/{id}", "/items/{id}")]
#[case::go_host("GET shop.example.com/items/{id}", "/items/{id}")]
#[case::go_rest("/files/{path...}", "/files/{path*}")]
#[case::go_exact("GET /posts/{$}", "/posts")]
#[case::go_tree("/static/", "/static")]
#[case::gorilla("/articles/{category}/{id:[0-9]{2,4}}", "/articles/{category}/{id}")]
#[case::chi("/date/{yyyy:\\d\\d\\d\\d}/{mm:\\d\\d}", "/date/{yyyy}/{mm}")]
#[case::actix("/u/{user_id}/{tail:.*}", "/u/{user_id}/{tail*}")]
#[case::laravel("users/{id?}", "/users/{id?}")]
#[case::symfony(r"/blog/{page<\d+>?1}", "/blog/{page?}")]
#[case::fastapi("/files/{file_path:path}", "/files/{file_path*}")]
#[case::api_gateway("/{proxy+}", "/{proxy*}")]
#[case::google("/v1/{name=shelves/*/books/*}:publish", "/v1/{name*}:publish")]
#[case::google_verb("/v1/shelves:clear", "/v1/shelves:clear")]
#[case::flask("/carts/<user_id>/items", "/carts/{user_id}/items")]
#[case::flask_converter("/post/<int:post_id>", "/post/{post_id}")]
#[case::flask_path("/static/<path:filename>", "/static/{filename*}")]
#[case::flask_arguments("/<any(about, help):page>/<string(length=2):lang>", "/{page}/{lang}")]
#[case::bottle("/object/<id:int>/<name:re:[a-z]+>", "/object/{id}/{name}")]
#[case::rocket("/files/<file..>", "/files/{file*}")]
#[case::django("users/<int:pk>/", "/users/{pk}")]
#[case::django_regex(r"^articles/(?P<year>[0-9]{4})/(?P<slug>[\w-]+)/$", "/articles/{year}/{slug}")]
#[case::django_included(r"api/^users/(?P<pk>[^/.]+)/$", "/api/users/{pk}")]
#[case::django_unnamed(r"^articles/(\d{4})/$", "/articles/{}")]
#[case::django_empty("^$", "/")]
#[case::django_format(r"^users\.(?P<format>[a-z0-9]+)/?$", "/users.{format}")]
#[case::django_optional(r"^page(?:-(?P<n>\d+))?/$", "/page")]
#[case::plain_regex(r"^/api/v\d+/.*$", "/api/v{}/{*}")]
#[case::next("/posts/[id]", "/posts/{id}")]
#[case::next_rest("/docs/[...slug]", "/docs/{slug*}")]
#[case::next_optional("/shop/[[...slug]]", "/shop/{slug*}")]
#[case::next_group("/(marketing)/about", "/about")]
#[case::svelte("/[[lang]]/blog/[page=integer]", "/{lang?}/blog/{page}")]
#[case::remix("/users/$userId/$", "/users/{userId}/{*}")]
#[case::play("/items/$id<[0-9]+>", "/items/{id}")]
#[case::odata("odata/Users/$count", "/odata/Users/$count")]
#[case::root("/", "/")]
#[case::empty("", "/")]
#[case::slashes("//users///list//", "/users/list")]
#[case::url("https://shop.example.com/users/{id}?x=1", "/users/{id}")]
#[case::unicode("/größe/{größe}", "/größe/{gre}")]
#[case::unbalanced("/a{b/c(d/e[f/g<h", "/a%7Bb/c%28d/e%5Bf/g%3Ch")]
#[case::spaces(" /a b/\u{7} ", "/a%20b/%07")]
#[case::colons("/::a/:1/x:y", "/%3A:a/%3A1/x:y")]
fn a_route_has_one_spelling(#[case] route: &str, #[case] expected: &str) {
    assert_eq!(canonical(route), expected);
    assert_eq!(canonical(expected), expected);
}

#[rstest]
#[case("/*", true)]
#[case("/**", true)]
#[case("*", true)]
#[case("/{path:path}", true)]
#[case("/[...slug]", true)]
#[case("/", false)]
#[case("/{id}", false)]
#[case("/files/*", false)]
fn a_catch_all_takes_every_path(#[case] route: &str, #[case] expected: bool) {
    assert_eq!(Route::parse(route).is_catch_all(), expected);
}

#[rstest]
#[case("/users/:id", "/users/40", true)]
#[case("/users/:id", "/users/40/", true)]
#[case("/users/:id", "/users/40?tab=1", true)]
#[case("/users/:id", "/users", false)]
#[case("/users/:id", "/users/40/posts", false)]
#[case("/users/:id", "/Users/40", false)]
#[case("/users/:id?", "/users", true)]
#[case("/(:locale)/posts", "/posts", true)]
#[case("/(:locale)/posts", "/de/posts", true)]
#[case("/(:locale)/posts", "/de/x/posts", false)]
#[case("/files/*path", "/files/a/b/c.txt", true)]
#[case("/files/*path", "/files", false)]
#[case("/a/**/z", "/a/b/c/z", true)]
#[case("/a/**/z", "/a/z", false)]
#[case("/*", "/", true)]
#[case("/", "/", true)]
#[case("/", "", true)]
#[case("/", "/a", false)]
#[case("/flights/:from-:to", "/flights/ber-muc", true)]
#[case("/flights/:from-:to", "/flights/-muc", false)]
#[case("/flights/:from-:to", "/flights/a-b-c", true)]
#[case("/files/:name.json", "/files/a.json", true)]
#[case("/files/:name.json", "/files/.json", false)]
#[case("/v1/{name=shelves/*}:publish", "/v1/x:publish", true)]
fn a_path_hits_a_route(#[case] route: &str, #[case] path: &str, #[case] expected: bool) {
    assert_eq!(matches(route, path), expected);
}

#[test]
fn the_route_that_says_more_comes_first() {
    let mut routes =
        ["/*", "/users/*", "/users/:id?", "/users/:id", "/users/:id.json", "/users/me", "/:x/me"].map(Route::parse);
    routes.sort_by_key(Route::vagueness);
    assert_eq!(
        routes.map(|route| route.to_string()),
        ["/users/me", "/users/{id}.json", "/users/{id}", "/users/{id?}", "/users/{*}", "/{x}/me", "/{*}"]
    );
}

#[test]
fn a_hostile_route_costs_no_more_than_its_length() {
    let route = Route::parse(&"/*/x".repeat(2_000).replace('*', "**"));
    assert!(!route.matches(&"/y".repeat(2_000)));
    assert!(route.matches(&"/x".repeat(2_000)));
    let long = canonical(&"/a".repeat(100_000));
    assert_eq!(long.len(), MAX_BYTES);
    assert_eq!(canonical(&"x".repeat(100_000)), "/{}");
}

proptest! {
    #[test]
    fn canonical_of_canonical_is_canonical(route in any_route()) {
        let once = canonical(&route);
        prop_assert_eq!(canonical(&once), once.clone(), "from {:?}", route);
        prop_assert!(once.starts_with('/') && once.len() <= MAX_BYTES);
        prop_assert!(!once.contains("//"));
    }

    #[test]
    fn no_route_and_no_path_panics(route in any_route(), path in any_route()) {
        let _ = matches(&route, &path);
    }

    #[test]
    fn a_plain_path_hits_itself(path in "(/[a-z0-9._~-]{1,8}){0,6}") {
        prop_assert_eq!(canonical(&path), if path.is_empty() { "/".to_owned() } else { path.clone() });
        prop_assert!(matches(&path, &path));
    }
}

/// Texts of any characters, and texts of those that mean something.
fn any_route() -> impl Strategy<Value = String> {
    prop_oneof![
        ".*",
        r"[a-c/:{}\[\]()<>*?+$^.|\\=, #%2]{0,40}",
        "(GET |https?://)?(/(\\{[a-c:?*=.]{0,4}\\}|[:*$][a-c]{0,2}|<[a-c:.]{0,5}>|\\[\\[?[.a-c]{0,5}\\]?\\]|\\([?:.a-c*]{0,5}\\)[?*]?|[a-c.:$]{0,3})){0,6}/?\\$?",
    ]
}
