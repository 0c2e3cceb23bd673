"""Recipes of AlphaGo Zero."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study

SILVER = Headline("Silver et al. 2017, doi:10.1038/nature24270", where="the paper's games are Go on 19 x 19 alone")
LEE = Headline(
    "Silver et al. 2017, doi:10.1038/nature24270",
    where="abstract: 100-0 against the version that beat Lee Sedol, on 19 x 19, after 72 hours",
)
PROCESS = "ray_jobs.self_play.alphazero:AlphaZero"
SPACE = {"lr": "loguniform(0.0003,0.01)", "c_init": "uniform(0.8,3)", "noise": "uniform(3,20)"}

alphazero = Recipe(
    "AlphaGo Zero on a game of yours: a network learns it by playing against itself.",
    Study(PROCESS, steps=50, save_every=10, log_every=1),
    system="AlphaGo Zero", data="", headline=SILVER, space=SPACE,
    text="--env is tictactoe, connect4, go9 and the like, or 'package.module:function' that returns a game.",
)  # fmt: skip

alphazero_tictactoe = Recipe(
    "AlphaGo Zero learns tic-tac-toe; its strength is exact.",
    Study(PROCESS, steps=40, save_every=10, log_every=1, env="tictactoe", simulations=32, games=256, table=128, updates=80,
          batch=256, window=20_000, temperature_moves=9, openings=4, width=128, blocks=1, measure_every=10, eval_simulations=32,
          anchors=(50, 200), arena_openings=20, arena_moves=2),
    system="AlphaGo Zero", data="tic-tac-toe", headline=SILVER, claim=Claim("losing_lines", at_most=0), space=SPACE,
    tune_metric="losing_lines", tune_mode="min",
    text=(
        "losing_lines counts all lines of play that the network loses with 32 simulations for each move, as first and as second "
        "player, against every possible play of the other side: 0 is perfect. Games start with up to 4 random moves, and moves are "
        "drawn in proportion to visits to the end, so that unusual positions occur: without random moves, 5 lines were lost."
    ),
)  # fmt: skip

alphazero_connect4 = Recipe(
    "AlphaGo Zero learns connect-4; a solver checks its moves.",
    Study(PROCESS, steps=40, save_every=5, log_every=1, env="connect4", simulations=50, games=256, table=128, updates=120,
          batch=512, window=60_000, temperature_moves=10, openings=16, width=256, blocks=2, measure_every=10,
          eval_simulations=100, arena_openings=10, arena_moves=4),
    system="AlphaGo Zero", data="connect-4", headline=SILVER, claim=Claim("value_kept", at_least=0.74), space=SPACE,
    tune_metric="value_kept", tune_mode="max",
    text=(
        "value_kept is the share of 2,000 solved positions, in which some move has a lower value than the best one, where the "
        "network's move with 100 simulations keeps win, draw or loss. Without a network 100 simulations keep 0.604 of them, and random "
        "moves 0.377."
    ),
)  # fmt: skip


alphazero_go5 = Recipe(
    "AlphaGo Zero learns Go on 5 x 5, where Black wins all points.",
    Study(PROCESS, steps=60, save_every=5, log_every=1, env="go5-24.5-2", simulations=64, games=256, table=128, updates=120,
          batch=512, window=80_000, temperature_moves=10, width=256, blocks=3, measure_every=20, anchors=(50, 200),
          arena_openings=10, arena_moves=2),
    system="AlphaGo Zero", data="Go on 5 x 5, komi 24.5", headline=SILVER, space=SPACE,
    text=(
        "With best play Black owns the whole board (van der Werf 2002), so that with a komi of 24.5 only all 25 points win. It makes "
        "no claim yet."
    ),
)  # fmt: skip


def at_the_papers_scale(env: str, data: str, window: int, memory: str) -> Recipe:
    """A recipe with the paper's settings: its tower of 19 residual blocks, search, noise, gate, optimiser, and games for each update.

    Args:
        env: the game.
        data: the game in words.
        window: positions that are learned from; the paper's are those of the newest 500,000 games.
        memory: what they take.

    Source: Silver et al. 2017, methods (optimization, evaluator, self-play, neural network architecture) and extended data table 3.
    Differs: the exploration rate is constant, as in the paper, but the paper does not give it.
    """
    return Recipe(
        f"AlphaGo Zero at the paper's scale: {data}.",
        Study(PROCESS, steps=196, save_every=1, log_every=1, env=env, simulations=1_600, games=25_000, table=64,
              updates=3_571, batch=2_048, window=window, lr=0.01, momentum=0.9, lr_drops=(400_000, 600_000), l2=1e-4,
              temperature_moves=30, c_base=float("inf"), width=256, blocks=19, convolutions=True, gate=0.55, gate_games=400,
              measure_every=10, eval_simulations=1_600),
        system="AlphaGo Zero", data=data, headline=LEE,
        text=(
            "The settings of the paper's run of 3 days: 196 rounds of 25,000 games, that is 4.9 million games, and 700,000 updates. The "
            f"window takes about {memory}. It is not trained here, and makes no claim."
        ),
    )  # fmt: skip


alphazero_go9 = at_the_papers_scale("go9", "Go on 9 x 9", 30_000_000, "50 GB of memory")
alphazero_go19 = at_the_papers_scale("go19", "Go on 19 x 19", 100_000_000, "760 GB of memory")
