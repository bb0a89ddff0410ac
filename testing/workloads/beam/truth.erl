%% outer calls middle, which calls itself and leaf; leaf calls itself in tail position, which leaves
%% no frame: `truth:run(MILLISECONDS)`.
-module(truth).
-export([run/1, outer/1, middle/1, leaf/2]).

run(Milliseconds) ->
    outer(erlang:monotonic_time(millisecond) + Milliseconds).

outer(End) ->
    case erlang:monotonic_time(millisecond) > End of
        true -> ok;
        false -> put(sum, middle(50)), outer(End)
    end.

middle(0) -> 0;
middle(N) -> leaf(2000, N) + middle(N - 1).

leaf(0, Sum) -> Sum;
leaf(N, Sum) -> leaf(N - 1, (Sum * 31 + N) rem 65521).
