"""Atari's 49 games as the paper has them, and scores that others published, at 10 million steps.

Of the paper the mean over 3 runs of the last 100 games (table 6); of RL Baselines3 Zoo one run, deterministic
(benchmark.md); of CleanRL the mean of 3 runs (docs/benchmark/ppo_atari.md). Both of these have the network of
Mnih 2015 and four epochs; the paper's network is that of Mnih 2016, with three epochs.
"""

from proximo.experiments.grid import Published

TABLE_2 = "Schulman 2017, table 2 (49 games, 3 runs of each; ACER took part)"
TABLE_6 = "Schulman 2017, table 6 (3 runs of 40M frames)"
ZOO = "RL Baselines3 Zoo, benchmark.md (1 run, deterministic)"
CLEANRL = "CleanRL, docs/benchmark/ppo_atari.md (3 runs)"

# game, A2C, PPO (both of the paper), PPO of the zoo, ppo_atari of CleanRL
SCORES = """
Alien                1141.7     1850.3          -        -
Amidar                380.8      674.6          -        -
Assault              1562.9     4971.9          -        -
Asterix              3176.3     4532.5          -        -
Asteroids            1653.3     2097.5   2156.174        -
Atlantis           729265.3  2311815.0          -        -
BankHeist            1095.3     1280.6          -        -
BattleZone           3080.0    17366.7          -        -
BeamRider            3031.7     1590.0   3397.000  1915.93
Bowling                30.1       40.1          -        -
Boxing                 17.7       94.6          -        -
Breakout              303.0      274.8    398.033   414.66
Centipede            3496.5     4386.4          -        -
ChopperCommand       1171.7     3516.3          -        -
CrazyClimber       107770.0   110202.0          -        -
DemonAttack          6639.1    11378.4          -        -
DoubleDunk            -16.2      -14.9          -        -
Enduro                  0.0      758.3    996.364        -
FishingDerby           20.6       17.8          -        -
Freeway                 0.0       32.5          -        -
Frostbite             261.8      314.2          -        -
Gopher               1500.9     2932.9          -        -
Gravitar              194.0      737.2          -        -
IceHockey              -6.4       -4.2          -        -
Jamesbond              52.3      560.7          -        -
Kangaroo               45.3     9928.7          -        -
Krull                8367.4     7942.3          -        -
KungFuMaster        24900.3    23310.3          -        -
MontezumaRevenge        0.0       42.0          -        -
MsPacman             1626.9     2096.5   1754.356        -
NameThisGame         5961.2     6254.9          -        -
Pitfall               -55.0      -32.9          -        -
Pong                   19.7       20.7     20.989    20.36
PrivateEye             91.3       69.5          -        -
Qbert               10065.7    14293.3  15627.108        -
Riverraid            7653.5     8393.6          -        -
RoadRunner          32810.0    25076.0  40680.645        -
Robotank                2.2        5.5          -        -
Seaquest             1714.3     1204.5   1783.636        -
SpaceInvaders         744.5      942.5    960.331        -
StarGunner          26204.0    32689.0          -        -
Tennis                -22.2      -14.8          -        -
TimePilot            2898.0     4342.0          -        -
Tutankham             206.8      254.4          -        -
UpNDown             17369.8    95445.0          -        -
Venture                 0.0        0.0          -        -
VideoPinball        19735.9    37389.0          -        -
WizardOfWor           859.0     4185.3          -        -
Zaxxon                 16.3     5008.7          -        -
"""

Scores = dict[str, Published]


def _column(place: int, source: str) -> Scores:
    rows = [line.split() for line in SCORES.split("\n") if line]
    return {row[0]: Published(float(row[place]), source) for row in rows if row[place] != "-"}


A2C, PPO = _column(1, TABLE_6), _column(2, TABLE_6)
PPO_OF_OTHERS = {"PPO of RL Baselines3 Zoo": _column(3, ZOO), "CleanRL's ppo_atari": _column(4, CLEANRL)}
GAMES = tuple(PPO)

# Games won by the mean over all of training, and over the last 100 games.
WINS = {
    name: (Published(training, TABLE_2), Published(last, TABLE_2))
    for name, training, last in (("PPO", 30, 19), ("A2C", 1, 1), ("ACER", 18, 28), ("tie", 0, 1))
}
