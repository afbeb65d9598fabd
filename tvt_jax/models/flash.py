"""Softmax attention in plain jax that holds the scores of two blocks of tokens at a time (FlashAttention)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from tvt_jax.models.remat import product

# Largest score, sum of exponentials and result so far.
_Running = tuple[Array, Array, Array]
# Keys, values, and which of them are no padding (None: all).
_Keys = tuple[Array, Array, Array | None]

_dot = partial(jnp.einsum, preferred_element_type=jnp.float32)


class Tile(NamedTuple):
    """What is worked on at a time.

    Attributes:
        queries: tokens in a block of queries, at most.
        keys: tokens in a block of keys and values, at most.
        all_heads: whether all heads of all images are, or one after the other.
    """

    queries: int
    keys: int
    all_heads: bool


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def flash(
    query: Float[Array, "b n heads d"], key: Float[Array, "b m heads d"], value: Float[Array, "b m heads d"], tile: Tile
) -> Float[Array, "b n heads d"]:
    """Softmax attention with a running float32 maximum and sum over blocks of keys (FlashAttention-2, algorithm 1).

    The backward pass makes the scores again, from the logarithm of each query's sum.
    """
    return _forward(query, key, value, tile)[0]


def _forward(query: Array, key: Array, value: Array, tile: Tile) -> tuple[Array, tuple[Array, ...]]:
    def one_head(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
        keys = _key_blocks(key, value, tile)
        result, log_sum = jax.lax.map(lambda block: _attend_block(block, keys), _blocks(query, tile.queries))
        return _joined(result, len(query)), _joined(log_sum, len(query))

    result, log_sum = _over_heads(one_head, tile, *_heads_first(_scaled(query), key, value))
    result, log_sum = product(_heads_last(result, query)), product(log_sum)
    return result, (query, key, value, result, log_sum)


def _backward(tile: Tile, kept: tuple[Array, ...], gradient: ArrayLike) -> tuple[Array, Array, Array]:
    """FlashAttention-2, algorithm 2, the blocks of queries outermost."""
    query, key, value, result, log_sum = kept

    def one_head(query: Array, key: Array, value: Array, result: Array, gradient: Array, log_sum: Array) -> tuple:
        overlap = (result.astype(jnp.float32) * gradient).sum(-1)
        of_queries = tuple(_blocks(part, tile.queries) for part in (query, gradient, log_sum, overlap))
        keys = _key_blocks(key, value, tile)
        zeros = jnp.zeros(keys[0].shape, jnp.float32)
        step = partial(_backward_block, keys=keys)
        (by_key, by_value), by_query = jax.lax.scan(step, (zeros, zeros), of_queries)
        return _joined(by_query, len(query)), _joined(by_key, len(key)), _joined(by_value, len(key))

    parts = _heads_first(_scaled(query), key, value, result, jnp.asarray(gradient))
    by_query, by_key, by_value = _over_heads(one_head, tile, *parts, log_sum)
    return _heads_last(_scaled(by_query), query), _heads_last(by_key, key), _heads_last(by_value, value)


flash.defvjp(_forward, _backward)


def _attend_block(query: Array, keys: _Keys) -> tuple[Array, Array]:
    """Give the result of a block of scaled queries, and the logarithm of the sum of each one's exponentials."""

    def step(carry: _Running, block: _Keys) -> tuple[_Running, None]:
        largest, total, result = carry
        key, value, real = block
        scores = _scores(query, key, real)
        new = jnp.maximum(largest, scores.max(-1))
        weights, shrunk = jnp.exp(scores - new[:, None]), jnp.exp(largest - new)
        result = result * shrunk[:, None] + _dot("nm,md->nd", weights.astype(value.dtype), value)
        return (new, total * shrunk + weights.sum(-1), result), None

    start = jnp.full(len(query), -jnp.inf), jnp.zeros(len(query)), jnp.zeros(query.shape, jnp.float32)
    (largest, total, result), _ = jax.lax.scan(step, start, keys)
    return (result / total[:, None]).astype(query.dtype), largest + jnp.log(total)


def _backward_block(
    sums: tuple[Array, Array], of_queries: tuple[Array, ...], keys: _Keys
) -> tuple[tuple[Array, Array], Array]:
    """Add to the gradients by keys and values what a block of queries gives; and the gradient by the block."""
    query, gradient, log_sum, overlap = of_queries

    def step(by_query: Array, block: tuple[_Keys, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
        (key, value, real), (by_key, by_value) = block
        weights = jnp.exp(_scores(query, key, real) - log_sum[:, None])
        by_scores = weights * (_dot("nd,md->nm", gradient, value) - overlap[:, None])
        weights, by_scores = weights.astype(query.dtype), by_scores.astype(query.dtype)
        by_key += _dot("nm,nd->md", by_scores, query)
        by_value += _dot("nm,nd->md", weights, gradient)
        return by_query + _dot("nm,md->nd", by_scores, key), (by_key, by_value)

    by_query, sums = jax.lax.scan(step, jnp.zeros(query.shape, jnp.float32), (keys, sums))
    return sums, by_query


def _scores(query: Array, key: Array, real: Array | None) -> Array:
    scores = _dot("nd,md->nm", query, key)
    return scores if real is None else jnp.where(real, scores, -jnp.inf)


def _key_blocks(key: Array, value: Array, tile: Tile) -> _Keys:
    keys, values = _blocks(key, tile.keys), _blocks(value, tile.keys)
    return keys, values, None if keys.size == key.size else _blocks(jnp.ones(len(key), bool), tile.keys)


def _blocks(x: Array, largest: int) -> Array:
    """Cut into as few equal blocks as there can be, the last padded with zeros."""
    count = -(-len(x) // largest)
    size = -(-len(x) // count)
    padded = jnp.pad(x, ((0, count * size - len(x)), *((0, 0),) * (x.ndim - 1)))
    return padded.reshape(count, size, *x.shape[1:])


def _joined(blocks: Array, tokens: int) -> Array:
    return blocks.reshape(-1, *blocks.shape[2:])[:tokens]


def _over_heads(one_head: Callable[..., Any], tile: Tile, *parts: Array) -> Any:
    return jax.vmap(one_head)(*parts) if tile.all_heads else jax.lax.map(lambda part: one_head(*part), parts)


def _heads_first(*parts: Array) -> tuple[Array, ...]:
    return tuple(part.swapaxes(1, 2).reshape(-1, part.shape[1], part.shape[3]) for part in parts)


def _heads_last(x: Array, like: Array) -> Array:
    batch, tokens, heads, channels = like.shape
    return x.reshape(batch, heads, tokens, channels).swapaxes(1, 2).astype(like.dtype)


def _scaled(query: Array) -> Array:
    return query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
