"""Lists of given and family names, from which people are made up; no name is in both splits.

Names that are also those of a month, a programming language or a well-known tool are left out.
"""

GIVEN = {
    "train": """
Aaron Abigail Adrian Agnieszka Ahmed Aisha Akira Alan Alba Alberto Alejandro Alessandro Alexander
Alexandra Alexei Alfred Alicia Alison Alvaro Amanda Amelie Amir Amit Amy Ana Anastasia Andrea
Andreas Andrew Andrzej Angela Anil Anita Anna Anne Annika Anthony Anton Antonio Arjun Arthur
Ashley Astrid Barbara Bart Beatriz Benjamin Bernhard Bettina Bogdan Boris Brandon Brenda Brian
Brigitte Bruno Camille Carla Carlos Carmen Caroline Catherine Cecilia Charles Charlotte Chen
Chiara Chloe Christian Christina Christopher Claire Claudia Colin Cristina Cynthia Daniel Daniela
Darren David Deborah Deepak Dennis Derek Diana Diego Dmitry Dominik Donna Dorota Douglas Eduardo
Edward Elena Elias Elizabeth Emily Emma Enrique Eric Erika Esther Ethan Eugene Eva Evelyn Fabian
Fatima Felix Fernando Filip Fiona Florian Francesca Francois Gabriel Gareth Gary George Gerhard
Giovanni Giulia Gloria Gordon Graham Gregory Guillaume Gustavo Hannah Hans Harold Hassan Heather
Heike Helen Henrik Henry Hiroshi Howard Hugo Ibrahim Ines Ingrid Irina Isaac Isabel Ivan Jacob
Jacqueline Jakub James Janet Jason Javier Jean Jeffrey Jennifer Jeremy Jessica Jin Joanna Joao
Joel Johan Johannes Jonathan Jorge Jose Joshua Juan Judith Julien Justin Kamil Karen Karl
Katarzyna Katherine Kazuki Keith Kenneth Kenji Kevin Kimberly Klaus Krishna Kristen Krzysztof Kyle
Lars Laura Lauren Laurent Leila Leonardo Leslie Li Linda Lisa Lorenzo Louise Luca Lucas Lucia Luis
Lukas Magdalena Malik Manuel Marcel Marco Marcus Margaret Maria Marianne Marie Mario Marta Martin
Mateusz Mathilde Matthew Matthias Megan Mehmet Mei Melissa Michael Michelle Miguel Mikhail Milan
Ming Miriam Mohammed Monica Nadia Natalia Natasha Nathan Neha Nicholas Nicole Nikolai Nina Noah
Norbert Olaf Oleg Olga Oliver Olivia Omar Oscar Pablo Pamela Patricia Patrick Paul Paula Pavel
Pedro Peter Petra Philip Pierre Piotr Priya Rachel Rafael Rajesh Ralf Ramon Raphael Rebecca Renata
Ricardo Richard Robert Roberto Roland Ronald Rosa Russell Ruth Ryan Sabine Samantha Samuel Sandra
Sanjay Sara Satoshi Sean Sebastian Sergei Shannon Sharon Simon Sofia Stefan Stefanie Stephen
Steven Sunil Susan Svetlana Sylvia Takashi Tamara Tatiana Teresa Thomas Tim Timothy Tobias Tomasz
Tony Ursula Valentina Vanessa Victor Vijay Vincent Vladimir Walter Wei Wendy William Wojciech
Xavier Yasmin Yuki Yusuf Yvonne Zachary Zoe
André François Günther José Jörg Jürgen Łukasz Márcio René Søren Zoë Íñigo Ángel Håkan
""",
    "test": """
Adele Alastair Albrecht Aleksandra Anders Annabel Apolline Ariel Arvid Aurelien Baptiste Beatrice
Bernadette Birgit Bjorn Blanca Bryony Callum Casper Cedric Celine Cheng Ciaran Clemens Cosmin
Dagmar Damien Danuta Declan Delphine Desmond Dinesh Dragan Duncan Edith Eileen Ekaterina Elodie
Emre Erwin Esperanza Ewa Farid Fergus Flavia Frederik Gaurav Genevieve Georgios Gerard Gianluca
Gilles Gunnar Gwendolyn Hamza Haruto Hector Heidi Helga Hideo Horst Ilya Imogen Isidro Jadwiga
Jarek Jasper Jelena Joachim Jocelyn Kaito Karim Karsten Katja Kerstin Khalid Kiran Kjell Konrad
Lachlan Lakshmi Leandro Leopold Liam Lothar Ludmila Maciej Maeve Magnus Mahesh Malgorzata
Marguerite Mariusz Mathieu Maxime Mercedes Mitsuko Morten Naomi Nikos Nuria Odile Ondrej Orlando
Osman Ottavia Padraig Penelope Pilar Pranav Quentin Radek Rashid Reinhard Rhiannon Rodrigo Rohan
Rosalind Ruben Rupert Salma Saskia Selma Siegfried Sigrid Siobhan Slawomir Solveig Sophie
Stanislav Sumit Sven Tadeusz Takeshi Terence Thibault Torsten Ulrike Umberto Valerie Vasily Verena
Vikram Virginie Wilhelm Winston Xin Yannick Yelena Yolanda Yoshiko Zbigniew Zdenek
Björn Céline Frédéric Jiří Michał Ondřej Ramón Sébastien Thérèse Tomás
""",
}
"""Given names."""

FAMILY = {
    "train": """
Abbott Adams Aguilar Ahmed Alvarez Andersen Anderson Arnold Bailey Baker Banerjee Barnes Bauer
Becker Bell Bennett Berger Bernard Bianchi Blanc Bogdanov Bose Bowman Bradley Brandt Braun Brennan
Brooks Brown Bryant Burke Burns Butler Byrne Campbell Carlson Carpenter Carter Castillo Chandra
Chang Chapman Chatterjee Chavez Chen Choi Clark Cohen Coleman Collins Conti Cook Cooper Cortes
Costa Craig Crawford Cruz Cunningham Daniels Das Davies Delgado Desai Diaz Dietrich Dixon Dubois
Duncan Dunn Edwards Eriksson Evans Fernandez Ferrari Fischer Fisher Fleming Flores Foster Fournier
Fox Franke Fraser Fujimoto Gallagher Garcia Gardner Garnier Gibson Gomez Gonzalez Gordon Goswami
Graham Grant Greco Green Griffin Gupta Gutierrez Hall Hamilton Hansen Harper Harris Hartmann
Hayashi Hernandez Hoffman Holmes Horvath Howard Huang Huber Hughes Hunter Ibrahim Ito Ivanov Iyer
Jackson Jacobsen Jansen Jensen Jimenez Johansson Johnson Jones Joshi Kaiser Kaplan Kapoor Kato
Kaya Keller Kelly Kennedy Khan Kim Klein Knight Kobayashi Koch Kowalski Kozlov Kramer Krause
Kruger Kumar Lambert Larsen Lebedev Lee Lefebvre Lehmann Leroy Lewis Lindberg Liu Lopez Lorenz
Ludwig Macdonald Maier Malik Marchetti Marino Marshall Martinez Mason Matsumoto Mayer Mazur
McCarthy McDonald McKenzie Mehta Mendoza Meyer Miller Mishra Mitchell Molina Moore Morales Moreau
Moretti Morgan Morozov Morris Muller Murphy Murray Nakamura Navarro Nelson Neumann Nguyen Nielsen
Novak Nowak OBrien OConnor Ogawa Oliveira Olsen Ortiz Owens Palmer Papadopoulos Park Parker Patel
Pereira Perez Perry Petersen Petrov Pham Phillips Popov Powell Ramirez Rao Reddy Reed Reyes
Reynolds Ricci Richards Richardson Richter Rivera Roberts Robinson Rodriguez Romano Romero Rossi
Roy Russo Ryan Saito Sanchez Sanders Santos Sato Schmidt Schneider Schroeder Schulz Schwartz
Sharma Shaw Shimizu Silva Simmons Simpson Singh Smirnov Smith Sokolov Stein Stevens Stewart
Sullivan Suzuki Takahashi Tanaka Taylor Thompson Torres Tran Turner Vargas Vasquez Vogel Volkov
Wagner Walker Wallace Wang Ward Watanabe Watson Weaver Weber Weiss Werner White Williams Wilson
Winkler Wojcik Wolff Wong Wood Wright Wu Yamamoto Yang Young Zhang Zhao Ziegler Zimmermann
Fernández García González Jiménez Köhler López Müller Muñoz Nuñez Pérez Schäfer Sørensen Wałęsa
""",
    "test": """
Abernathy Adeyemi Alfonsi Amundsen Applegate Aronsson Babic Bakshi Baranowski Beaumont Bellamy
Bhatt Birch Blomqvist Bondarenko Borgstrom Bouchard Brzezinski Cadwell Calloway Capello Carmichael
Castellano Chaudhary Ciobanu Cordova Dalgaard Dandekar Deschamps Dragomir Drummond Eastwood Eklund
Engstrom Escobar Fairbanks Falkenberg Ferreira Fitzgerald Galanis Gauthier Ghosh Giordano
Grabowski Gustafsson Haddad Halvorsen Hargreaves Hashimoto Haugen Hawthorne Heinrich Hidalgo
Holloway Hrubesch Iglesias Ishikawa Jaworski Kalinowski Karlsson Kavanagh Kirchner Kjeldsen
Kovalenko Kulkarni Lachance Langford Lindqvist Lombardi Lundgren Madsen Maldonado Marchand Mbeki
Menzies Mikkelsen Montoya Mukherjee Nakagawa Naumann Nikolaidis Nordstrom Okafor Okonkwo Oppenheim
Orlov Osborne Ostrowski Pacheco Palomino Pappas Pelletier Pettersson Pinheiro Quintero Rademacher
Rasmussen Ravenscroft Rosenberg Sandoval Savchenko Schumacher Seixas Shevchenko Sinclair Sorensen
Stankovic Steinmetz Stratton Szymanski Tachibana Thorvald Tikhonov Toivonen Umarov Vaillancourt
Valdivia Vandenberg Varga Venkataraman Villanueva Wainwright Weatherby Whitfield Yilmaz Yoshimura
Zaremba Zielinski
Báez Bölling Çelik Dvořák Grün Hernández Kjær Lindström Peña Rücker Škoda Świątek
""",
}
"""Family names."""
