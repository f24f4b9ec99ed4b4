"""What people may ask for and the bundled model has never seen or heard."""

OTHER_THINGS = tuple(
    """
a dog
a cat meows
a puppy whines
sheep bleat
a rooster crows
a duck quacks
an owl hoots
a crow caws
a songbird chirps
insects buzz
a bee
a snake hisses
a wolf
a bear growls
an elephant trumpets
a monkey
a fish swims
a whale sings
horse hooves clop
a donkey brays
a mouse squeaks
a man talks
a woman speaks
children play and shout
a baby cries
someone laughs
a person sneezes
someone coughs
snoring
breathing heavily
footsteps on gravel
whistling a tune
a choir sings
a rapper
applause from an audience
a stadium crowd
chatter in a restaurant
a guitar is strummed
a violin
a cello
a piano
an organ in a church
a trumpet
a saxophone
a clarinet
a harp
an accordion
a bagpipe
a drum solo
cymbals
a bass guitar
electronic dance music
an orchestra plays
a car engine idles
a car skids
traffic on a road
a motorbike
a truck
a bus stops
a bicycle
a train on rails
a steam locomotive
a subway
an aeroplane in the sky
a helicopter
a jet engine
a boat on a lake
a ship's horn
a rowing boat
sea waves
the ocean
surf
a stream in a forest
a river
a fountain
a waterfall
a swimming pool
a toilet flushes
a shower in a bathroom
boiling water
wind howls
leaves rustle
a tree falls
a snowy mountain
snow falls
fog over a field
sunrise
a sunset over the sea
a starry sky
clouds drift
a volcano
an earthquake
a fire burns in a fireplace
a candle flickers
smoke rises
cooking in a pan
chopping vegetables
someone eats an apple
drinking a glass of wine
pouring coffee
a kettle
a microwave oven
a blender
a dishwasher
a washing machine
a hair dryer
an electric shaver
a vacuum cleaner
a sewing machine
a lawn mower
a chainsaw
a power drill
sawing wood
sandpaper
filing metal
a printer
typing on a keyboard
a computer mouse
a telephone conversation
a television
a camera shutter
a cash register
coins
a zip is closed
scissors cut paper
paper is torn
writing with a pencil
turning pages of a book
a door opens
a door slams
a window breaks
glass shatters
a squeaky hinge
keys jingle
a drawer
a chair
walking up stairs
an elevator
a gunshot
a machine gun
artillery in a war
a sword fight
a balloon
a whip cracks
an arrow flies
bowling pins fall
a golf swing
skateboarding
skiing downhill
a swimmer
running in a park
dancing people
a wedding
a birthday party
a portrait of a woman
an old man smiles
a girl with long hair
a boy in a classroom
a teacher
a doctor
a soldier
a king
a robot
an alien spaceship
a dragon
a castle
a city street at night
a skyscraper
a bridge
a village
a farm
a garden of flowers
a forest
a desert
a beach
an island
a cave
a kitchen
a bedroom
an office
a library
a museum
a shop
a factory
a car
a house
a table
a cup of tea
a cake
a pizza
fruit
a dress
a hat
shoes
a painting
a sculpture
a flag waves
a kite flies
a toy
a doll
money
politics
science
mathematics
history
love
happiness
sadness
an idea
a word
cinematic, highly detailed, 4k
high quality photograph
slow motion
a camera pans over a landscape
the picture moves gently
nothing happens
silence
""".strip().split("\n")
)
